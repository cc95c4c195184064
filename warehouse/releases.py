"""Releases: a build folder that dbt fills, a gate, a manifest, one atomic rename.

Here: the life of a release from the empty build folder to the symlink `current`. Not here: the SQL (`dbt_project/`),
who may see what (`warehouse.policy`), reading a release (`warehouse.gateway`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import duckdb

from warehouse import dbt, disclosure, gate, lake, projects
from warehouse.dictionary import load_dictionary
from warehouse.errors import ReleaseError
from warehouse.home import Home, Network
from warehouse.policy import in_force, load_policy, settings_for_dbt

log = logging.getLogger(__name__)

VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}\.[1-9]\d*$")
BUILD_PREFIX = ".build-"

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
    if not VERSION.match(chosen) or not (folder / "manifest.json").is_file():
        known = ", ".join(_versions(home)[-3:]) or "none"
        raise ReleaseError(f"There is no release {chosen[:40]!r}; the newest are: {known}")
    return folder


def _remove_dead_builds(home: Home) -> None:
    """Remove builds whose process is gone: nobody holds their lock."""
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
            shutil.rmtree(folder, ignore_errors=True)
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
    """Whether a release built now would differ from the current one, or there is none."""
    try:
        folder = release_folder(home)
    except ReleaseError:
        return True
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return bool(manifest["inputs_sha256"] != inputs_sha256(home))


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
    home.releases.mkdir(parents=True, exist_ok=True)
    _remove_dead_builds(home)
    version = _next_version(home, now)
    folder = home.releases / f"{BUILD_PREFIX}{version}-{secrets.token_hex(4)}"
    folder.mkdir()
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    _held[folder] = handle
    (folder / "site").mkdir()
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
    return Build(version, folder, now, environment, inputs_sha256(home, now.date()))


def _published_release(home: Home) -> tuple[Path | None, dict[str, Any] | None]:
    """Folder and manifest of the release that readers have now."""
    if current_version(home) is None:
        return None, None
    folder = release_folder(home)
    return folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def _tier_files(build: Build) -> dict[str, Path]:
    """File of each tier and site, as it is called in the manifest -> path."""
    files = {f"{tier}.duckdb": build.folder / f"{tier}.duckdb" for tier in ("steward", "registered", "open")}
    for site in json.loads(build.environment["RANVIER_SITES"]):
        files[f"site/{site}.duckdb"] = build.folder / "site" / f"{site}.duckdb"
    for project in json.loads(build.environment["RANVIER_PROJECTS"]):
        name = f"controlled/{project['name']}.duckdb"
        files[name] = build.folder / name
    return files


def _code_version() -> str:
    try:
        return package_version("ranvier")
    except PackageNotFoundError:
        return "unknown"


def _site_states(home: Home, network: Network) -> dict[str, Any]:
    """Per site: deliveries in the release, and whether the newest one is missing from it."""
    states: dict[str, Any] = {}
    for site in network.sites:
        received = lake.read_table(home, "raw_lake__delivery", site.code).sort("received_datetime", "delivery_key")
        accepted = lake.read_table(home, "raw_lake__accepted", site.code).sort("sequence_number")
        superseded = set(accepted["supersedes_delivery_key"].drop_nulls())
        included = [key for key in accepted["delivery_key"] if key not in superseded]
        newest = received.row(-1, named=True) if received.height else None
        is_failed = newest is not None and (newest["status"] == "unreadable" or newest["delivery_key"] not in included)
        states[site.code] = {
            "deliveries": included,
            "is_newest_delivery_failed": is_failed,
            "newest_delivery": newest["delivery_key"] if newest else None,
            "failure_reason_code": newest["reason_code"] if newest and is_failed else None,
            "keeps_last_accepted": included[-1] if is_failed and included else None,
        }
    return states


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
    policy = in_force(load_policy(), network)
    forbidden = gate.unshared_keys(files["steward.duckdb"])
    networks_keys = gate.all_keys(files["steward.duckdb"])
    scopes = {p["name"]: set(p["scopes"]) for p in json.loads(build.environment["RANVIER_PROJECTS"])}
    counts: dict[str, dict[str, int]] = {}
    anonymity: dict[str, Any] = {}
    for name, path in files.items():
        is_project = name.startswith("controlled/")
        wrong, counts[name] = gate.check_file(
            name, path, networks_keys if is_project else forbidden, policy, scopes.get(path.stem, set())
        )
        if not wrong and (is_project or name == "registered.duckdb"):
            wrong, anonymity[name] = gate.check_anonymity(name, path, policy)
        problems += wrong
    aggregates: dict[str, Any] = {}
    if not problems:
        problems, aggregates = disclosure.check_release(
            files,
            _published_release(home)[0],
            small_count_maximum=int(build.environment["RANVIER_SMALL_COUNT_MAXIMUM"]),
            rounding=int(build.environment["RANVIER_ROUNDING"]),
        )
    suppressed = gate.suppression(build.folder / "work" / "build.duckdb")
    for name, reached in anonymity.items():
        reached |= suppressed.get(name, {})
    manifest = {
        "version": build.version,
        "inputs_sha256": build.inputs_sha256,
        "built_datetime": build.started.isoformat(),
        "dictionary_version": load_dictionary().version,
        "code_version": _code_version(),
        "duckdb_version": duckdb.__version__,
        "dbt_project_sha256": dbt.project_hash(),
        "small_count_maximum": int(build.environment["RANVIER_SMALL_COUNT_MAXIMUM"]),
        "rounding": int(build.environment["RANVIER_ROUNDING"]),
        "policy_preset": policy.preset,
        "anonymity": anonymity,
        "aggregates": aggregates,
        "row_counts": counts,
        "files": {name: {"sha256": lake.sha256_file(path)} for name, path in files.items()},
        "sites": _site_states(home, network),
    }
    if gate.holds_key(json.dumps(manifest), forbidden):
        problems.append("manifest.json holds a key of a subject who does not share")
    if problems:
        raise ReleaseError(f"Release {build.version} is not published: {'; '.join(problems)}")
    for leftover in ("work", "target", "logs"):
        shutil.rmtree(build.folder / leftover, ignore_errors=True)
    keep = {"steward.duckdb", "registered.duckdb", "open.duckdb", "site", "controlled", "lock"}
    if strays := sorted(p.name for p in build.folder.iterdir() if p.name not in keep):
        raise ReleaseError(f"Release {build.version} is not published: unexpected files {', '.join(strays)}")
    for path in files.values():
        path.chmod(0o440)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    lake.write_json(build.folder / "manifest.json", manifest)
    (build.folder / "lock").unlink(missing_ok=True)
    lake.fsync_folder(build.folder)
    build.folder.rename(home.releases / build.version)
    dbt.build_link(home).unlink(missing_ok=True)
    lake.fsync_folder(home.releases)
    if (handle_number := _held.pop(build.folder, None)) is not None:
        os.close(handle_number)
    return manifest


def publish(home: Home, version: str) -> None:
    """Make a finished release the current one, by one atomic rename of the symlink.

    Raises
    ------
    ReleaseError
        There is no such release, or one of its files is not what its manifest says.
    """
    folder = release_folder(home, version)
    manifest: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, facts in manifest["files"].items():
        if not (folder / name).is_file() or lake.sha256_file(folder / name) != facts["sha256"]:
            raise ReleaseError(f"Release {version} is not published: {name} is not the file that was built")
    lake.point(home.current_release, version)
