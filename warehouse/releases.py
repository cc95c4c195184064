"""Releases: a build folder that dbt fills, a gate, a manifest, one atomic rename.

Here: the life of a release from the empty build folder to the symlink `current`, and back. Not here: the SQL
(`dbt_project/`), who may see what (`warehouse.policy`), reading a release (`warehouse.gateway`), retention
(`warehouse.retention`) and re-issue (`warehouse.reissue`).
"""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from warehouse import audit, chain, citation, dbt, disclosure, gate, lake, manifest, projects
from warehouse.consent import withdrawn_subjects
from warehouse.dictionary import load_dictionary
from warehouse.errors import ReleaseError
from warehouse.home import Home
from warehouse.policy import Policy, in_force, load_policy, settings_for_dbt

log = logging.getLogger(__name__)

VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}\.[1-9]\d*$")
BUILD_PREFIX = ".build-"
REMOVED_PREFIX = ".removed-"
"""A release on its way out: renamed first, so that nobody opens half of it."""
Action = Literal["publish", "rollback", "prune", "reissue"]

_held: dict[Path, int] = {}
"""Open lock of each build of this process; the system lets go of it when the process dies, however it dies."""


@dataclass(frozen=True)
class Build:
    """A release in the making.

    `folder` is hidden in `releases/` until `finish_build`; `environment` is what dbt needs to fill it.
    """

    version: str
    folder: Path
    started: datetime
    environment: dict[str, str]
    inputs_sha256: str
    """Of everything the release follows from, see `inputs_sha256`."""
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Content hash of each lake table that dbt will read."""
    project_dir: Path = dbt.PROJECT


def _versions(home: Home) -> list[str]:
    found = [p.name for p in home.releases.glob("*") if VERSION.match(p.name) and p.is_dir()]
    return sorted(found, key=_order)


def _order(version: str) -> tuple[str, int]:
    day, number = version.split(".")
    return day, int(number)


def list_releases(home: Home) -> list[str]:
    """Versions of the releases in this home, oldest first."""
    return _versions(home)


def current_version(home: Home) -> str | None:
    """Version that `current` points at; None before the first release."""
    try:
        return home.current_release.readlink().name
    except FileNotFoundError:
        return None


def release_folder(home: Home, version: str | None = None) -> Path:
    """Folder of a release, the current one by default.

    The real folder and never the symlink: DuckDB keeps an open file by its path, and would answer from the old release.

    Raises
    ------
    ReleaseError
        There is none.
    """
    chosen = version or current_version(home)
    if chosen is None:
        raise ReleaseError("There is no release yet; make one with: ranvier run")
    folder = home.releases / chosen
    if not VERSION.match(chosen) or not (folder / manifest.NAME).is_file():
        known = ", ".join(_versions(home)[-3:]) or "none"
        raise ReleaseError(f"There is no release {chosen[:40]!r}; the newest are: {known}")
    return folder


def by_build(home: Home) -> list[str]:
    """Versions in the order their content was built; a release that was issued again keeps the place of the first."""
    whole = [version for version in _versions(home) if (home.releases / version / manifest.NAME).is_file()]
    built = {version: manifest.read(home.releases / version)["built_datetime"] for version in whole}
    return sorted(built, key=lambda version: (built[version], _order(version)))


@contextmanager
def changing(home: Home) -> Iterator[None]:
    """Hold the one lock under which releases are published, removed and issued again; waits for whoever has it."""
    home.releases.mkdir(parents=True, exist_ok=True)
    handle = os.open(home.releases / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def decide(home: Home, action: Action, version: str, *, by: str | None, reason: str, **facts: Any) -> None:
    """Write a decision about a release as a row of the audit log: who, when, what, why.

    Raises
    ------
    RanvierError
        The log cannot be written; then the decision may not be carried out.
    """
    entry = {"event": "release", "action": action, "release": version, "user": by or getpass.getuser()}
    audit.append(home, entry | {"reason": reason} | facts)


def decisions(home: Home) -> list[dict[str, Any]]:
    """Decisions about releases, oldest first: action, release, user, reason, time."""
    return [record for record in chain.records(home.audit) if record.get("event") == "release"]


def destroy(folder: Path) -> None:
    """Remove a folder of releases with its files; first out of sight by one rename, so that a kill leaves no half."""
    if not folder.name.startswith(REMOVED_PREFIX):
        hidden = folder.with_name(f"{REMOVED_PREFIX}{folder.name}-{secrets.token_hex(4)}")
        try:
            folder.rename(hidden)
        except FileNotFoundError:  # another process was first
            return
        lake.fsync_folder(folder.parent)
        folder = hidden
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def clean(home: Home) -> None:
    """Finish what killed processes left: builds that nobody holds the lock of, releases on their way out."""
    for folder in home.releases.glob(f"{REMOVED_PREFIX}*"):
        destroy(folder)
    for folder in home.releases.glob(f"{BUILD_PREFIX}*"):
        if folder in _held or not folder.is_dir():
            continue
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another start was quicker
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            destroy(folder)
            log.info("removed an unfinished build")
        finally:
            os.close(handle)


def _next_version(home: Home, now: datetime) -> str:
    day = now.strftime("%Y-%m-%d")
    taken = [int(v.split(".")[1]) for v in _versions(home) if v.startswith(f"{day}.")]
    for folder in home.releases.glob(f"{BUILD_PREFIX}{day}.*"):
        taken.append(int(folder.name.removeprefix(f"{BUILD_PREFIX}{day}.").split("-")[0]))
    return f"{day}.{max(taken, default=0) + 1}"


def inputs_sha256(home: Home, today: date | None = None) -> str:
    """Short name of what a release built now would follow from: lake, policy, projects, dictionary, SQL.

    Findings are left out: telling a site of them changes their state, and they change with what they are about.
    """
    parts = sorted(home.lake.glob("raw_*/site=*/[!.]*.parquet"))
    lake_state = [
        [part.relative_to(home.lake).as_posix(), part.stat().st_size, part.stat().st_mtime_ns]
        for part in parts
        if part.parts[-3] != "raw_qa__finding" and part.parent.name != "site=_schema"
    ]
    network = home.network()
    policy = in_force(load_policy(), network)
    rule = [policy.small_count_maximum, policy.rounding, settings_for_dbt(policy)]
    approved = projects.active_projects(home, policy, today or datetime.now(UTC).date())
    sites = [[site.code, site.name] for site in network.sites]
    return lake.sha256_json(
        [
            lake_state,
            dbt.project_hash(),
            rule,
            projects.settings_for_dbt(policy, approved),
            sites,
            load_dictionary().model_dump(mode="json"),
        ]
    )


def is_due(home: Home) -> bool:
    """Whether a release should be built now: what it would follow from has changed, or the newest was never published.

    Not where a data manager went back to an earlier release, or where publishing is manual: the newest release then
    waits for a decision, and only new data make another.
    """
    newest = next(reversed(by_build(home)), None)
    if newest is None or manifest.read(home.releases / newest)["inputs_sha256"] != inputs_sha256(home):
        return True
    if newest in (current_version(home), waiting_version(home)):
        return False
    return not any(
        entry["action"] in ("publish", "reissue") and entry["release"] == newest for entry in decisions(home)
    )


def waiting_version(home: Home) -> str | None:
    """The newest release where publishing is manual and it is not the current one."""
    newest = next(reversed(by_build(home)), None)
    is_manual = home.network().releases.publish == "manual"
    return newest if is_manual and newest != current_version(home) else None


def open_build_folder(home: Home, now: datetime) -> tuple[str, Path]:
    """A version and its empty hidden folder, which this process holds the lock of."""
    home.releases.mkdir(parents=True, exist_ok=True)
    clean(home)
    version = _next_version(home, now)
    folder = home.releases / f"{BUILD_PREFIX}{version}-{secrets.token_hex(4)}"
    folder.mkdir()
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    _held[folder] = handle
    (folder / "site").mkdir()
    return version, folder


def start_build(home: Home, *, now: datetime) -> Build:
    """Make an empty build folder for dbt to fill; folders of builds whose process died are removed first.

    Parameters
    ----------
    now
        Time of the build, with a time zone; its day names the version.

    Raises
    ------
    HomeError, DictionaryError
        The network file or the policy cannot be used.
    """
    network = home.network()
    approved = projects.active_projects(home, in_force(load_policy(), network), now.date())
    version, folder = open_build_folder(home, now)
    lake.ensure_schema_parts(home)
    dbt.write_reference(folder / "work" / "reference", network)
    projects.write_keys(home, folder / "work" / "reference" / "project_key.parquet", network, approved)
    if approved:
        (folder / "controlled").mkdir()
    disclosure.write_published(folder / "work" / "reference", *_published_release(home))
    home.cache.mkdir(parents=True, exist_ok=True)
    lake.point(dbt.build_link(home), folder)
    cached = dbt.cache_folder(home) / "partial_parse.msgpack"
    if cached.exists():  # dbt then parses only what differs
        (folder / "target").mkdir()
        shutil.copyfile(cached, folder / "target" / cached.name)
    environment = dbt.environment_of(home, folder, version, network, approved)
    inputs = manifest.input_hashes(home)
    return Build(version, folder, now, environment, inputs_sha256(home, now.date()), inputs)


def _published_release(home: Home) -> tuple[Path | None, dict[str, Any] | None]:
    """Folder and manifest of the release that readers have now."""
    if current_version(home) is None:
        return None, None
    folder = release_folder(home)
    return folder, manifest.read(folder)


def _tier_files(build: Build) -> dict[str, Path]:
    """File of each tier and site, as it is called in the manifest -> path."""
    files = {f"{tier}.duckdb": build.folder / f"{tier}.duckdb" for tier in ("steward", "registered", "open")}
    for site in json.loads(build.environment["RANVIER_SITES"]):
        files[f"site/{site}.duckdb"] = build.folder / "site" / f"{site}.duckdb"
    for project in json.loads(build.environment["RANVIER_PROJECTS"]):
        name = f"controlled/{project['name']}.duckdb"
        files[name] = build.folder / name
    return files


@dataclass(frozen=True)
class _Judged:
    """What the gate found in the files of a build."""

    problems: list[str]
    row_counts: dict[str, dict[str, int]]
    anonymity: dict[str, Any]
    aggregates: dict[str, Any]


def _rule(build: Build) -> tuple[int, int]:
    """Largest count that is blanked in this build, and the base of rounding."""
    return int(build.environment["RANVIER_SMALL_COUNT_MAXIMUM"]), int(build.environment["RANVIER_ROUNDING"])


def _judge(home: Home, build: Build, files: dict[str, Path], policy: Policy) -> _Judged:
    """Everything the gate has to say of the finished files."""
    forbidden = gate.unshared_keys(files["steward.duckdb"])
    networks_keys = gate.all_keys(files["steward.duckdb"])
    scopes = {p["name"]: set(p["scopes"]) for p in json.loads(build.environment["RANVIER_PROJECTS"])}
    problems: list[str] = []
    counts: dict[str, dict[str, int]] = {}
    anonymity: dict[str, Any] = {}
    for name, path in files.items():
        is_project = name.startswith("controlled/")
        keys, held = (networks_keys, scopes[path.stem]) if is_project else (forbidden, set())
        wrong, counts[name] = gate.check_file(name, path, keys, policy, held)
        if not wrong and (is_project or name == "registered.duckdb"):
            wrong, anonymity[name] = gate.check_anonymity(name, path, policy)
        problems += wrong
    aggregates: dict[str, Any] = {}
    if not problems:
        maximum, rounding = _rule(build)
        problems, aggregates = disclosure.check_release(
            files, _published_release(home)[0], small_count_maximum=maximum, rounding=rounding
        )
    suppressed = gate.suppression(build.folder / "work" / "build.duckdb")
    for name, reached in anonymity.items():
        reached |= suppressed.get(name, {})
    return _Judged(problems, counts, anonymity, aggregates)


def finish_build(home: Home, build: Build) -> dict[str, Any]:
    """Pass the build through the gate and give it its version's folder. Returns the manifest.

    Raises
    ------
    ReleaseError
        Something is wrong; the text names it, and nothing is published.
    """
    problems = [f"dbt: {name} failed" for name in dbt.failed_nodes(build.folder / "target")]
    files = _tier_files(build)
    problems += [f"{name} was not written" for name, path in files.items() if not path.is_file()]
    if not (build.folder / "target" / "run_results.json").exists():
        problems.append("dbt has not run")
    if problems:
        raise ReleaseError(f"Release {build.version} is not published: {'; '.join(problems)}")
    network = home.network()
    judged = _judge(home, build, files, in_force(load_policy(), network))
    forbidden = gate.unshared_keys(files["steward.duckdb"])
    content = manifest.gather(
        home,
        network,
        version=build.version,
        built=build.started.isoformat(),
        inputs_sha256=build.inputs_sha256,
        inputs=build.inputs,
        files=files,
        row_counts=judged.row_counts,
        rule=_rule(build),
    ) | {"anonymity": judged.anonymity, "aggregates": judged.aggregates}
    problems = list(judged.problems)
    if gate.holds_key(json.dumps(content), forbidden):
        problems.append(f"{manifest.NAME} holds a key of a subject who does not share")
    if problems:
        raise ReleaseError(f"Release {build.version} is not published: {'; '.join(problems)}")
    for leftover in ("work", "target", "logs"):
        shutil.rmtree(build.folder / leftover, ignore_errors=True)
    keep = {"steward.duckdb", "registered.duckdb", "open.duckdb", "site", "controlled", "lock"}
    if strays := sorted(p.name for p in build.folder.iterdir() if p.name not in keep):
        raise ReleaseError(f"Release {build.version} is not published: unexpected files {', '.join(strays)}")
    seal(home, build.folder, content)
    dbt.build_link(home).unlink(missing_ok=True)
    return content


def seal(home: Home, folder: Path, content: dict[str, Any]) -> None:
    """Write manifest and citation into a finished build, protect it from change, and give it its version's name."""
    version = content["version"]
    released = content.get("reissued_datetime", content["built_datetime"])[:10]
    citation.write(folder, home.network(), version, released)
    content["files"] |= {name: {"sha256": lake.sha256_file(folder / name)} for name in citation.NAMES}
    lake.write_json(folder / manifest.NAME, content)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "lock":
            path.chmod(0o440)
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    (folder / "lock").unlink(missing_ok=True)
    for inner in (path for path in folder.iterdir() if path.is_dir()):
        lake.fsync_folder(inner)
        inner.chmod(0o550)
    lake.fsync_folder(folder)
    target = home.releases / version
    folder.rename(target)
    target.chmod(0o550)
    lake.fsync_folder(home.releases)
    if (handle_number := _held.pop(folder, None)) is not None:
        os.close(handle_number)


def holds_subjects(folder: Path, subjects: frozenset[str], *, shared_only: bool = True) -> bool:
    """Whether a release tells its readers of one of these subjects.

    Its steward's file says who is in the others: all of them are made from the subjects it marks as shared.

    Parameters
    ----------
    shared_only
        False asks for the steward's file too.
    """
    where = " and is_shared" if shared_only else ""
    with duckdb.connect(str(folder / "steward.duckdb"), read_only=True) as db:
        row = db.execute(
            f"select count(*) from dim_subject where subject_key in (select unnest(?)){where}", [sorted(subjects)]
        ).fetchone()
    return bool(row and row[0])


def check(home: Home, version: str) -> None:
    """Whether a release may be the current one.

    Raises
    ------
    ReleaseError
        There is no such release, one of its files is not what its manifest says, the gate did not pass it, or it tells
        of a subject who has withdrawn since.
    """
    folder = release_folder(home, version)
    content = manifest.read(folder)
    for name, facts in content["files"].items():
        if not (folder / name).is_file() or lake.sha256_file(folder / name) != facts["sha256"]:
            raise ReleaseError(f"Release {version} is not published: {name} is not the file that was built")
    passed = content.get("gate", {"is_passed": False, "problems": ["its manifest names no gate; build a new release"]})
    if not passed["is_passed"]:
        raise ReleaseError(f"Release {version} is not published: {'; '.join(passed['problems'])}")
    gone = withdrawn_subjects(home)
    if gone and holds_subjects(folder, gone):
        raise ReleaseError(
            f"Release {version} is not published: it holds subjects who have withdrawn since; build a new release with:"
            " ranvier run, or strip them from the kept ones with: ranvier release reissue --reason withdrawal"
        )


def publish(
    home: Home,
    version: str,
    *,
    by: str | None = None,
    reason: str = "",
    action: Literal["publish", "rollback"] = "publish",
) -> None:
    """Make a finished release the current one, by one atomic rename of the symlink, and record who did it and why.

    Parameters
    ----------
    by
        Who decided; the system's user by default.

    Raises
    ------
    ReleaseError
        It may not be published, see `check`; the current release stays.
    """
    with changing(home):
        check(home, version)
        decide(home, action, version, by=by, reason=reason, before=current_version(home))
        lake.point(home.current_release, version)


def rollback(home: Home, version: str | None = None, *, reason: str, by: str | None = None) -> str:
    """Go back to an earlier release: the one given, else the one built before the current one. Returns its version.

    Raises
    ------
    ReleaseError
        There is no reason or no earlier release, or it may not be published again, see `check`.
    """
    if not reason.strip():
        raise ReleaseError("A rollback needs a reason; give one with: --reason TEXT")
    current = current_version(home)
    if current is None:
        raise ReleaseError("There is no current release to go back from; make one with: ranvier run")
    order = by_build(home)
    earlier = order[: order.index(current)] if current in order else order
    if version is None and not earlier:
        raise ReleaseError(f"There is no release before {current}; see what is kept with: ranvier release list")
    chosen = version or earlier[-1]
    if chosen == current:
        raise ReleaseError(f"{chosen} is the current release already; name an earlier one")
    if chosen in order and chosen not in earlier:
        raise ReleaseError(
            f"{chosen} is newer than the current release; publish it with: ranvier release publish {chosen}"
        )
    publish(home, chosen, by=by, reason=reason, action="rollback")
    return chosen
