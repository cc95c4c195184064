"""Releases: a build folder that dbt fills, a gate, a manifest, one atomic rename.

Here: the life of a release from the empty build folder to the symlink `current`. Not here: the SQL (`dbt_project/`),
who may see what (`warehouse.policy`), reading a release (`warehouse.gateway`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from warehouse import lake
from warehouse.dictionary import load_dictionary, range_text
from warehouse.errors import ReleaseError
from warehouse.home import Home, Network
from warehouse.policy import disclosure_rule, load_policy

log = logging.getLogger(__name__)

PROJECT = Path(__file__).parent.parent / "dbt_project"
VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}\.[1-9]\d*$")
BUILD_PREFIX = ".build-"
KEY_LIKE = re.compile(rb"(?:sbj|ses|ser)_[0-9a-f]{16}")

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
    project_dir: Path = PROJECT


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


def dbt_environment(home: Home, build_folder: Path, version: str, network: Network) -> dict[str, str]:
    """What `dbt_project/` reads from its environment; nothing of dbt is written outside the build folder."""
    maximum, rounding = disclosure_rule(load_policy(), network)
    return {
        "RANVIER_BUILD": str(build_folder),
        "RANVIER_LAKE": str(home.lake),
        "RANVIER_REFERENCE": str(build_folder / "work" / "reference"),
        "RANVIER_VERSION": version,
        "RANVIER_SITES": json.dumps([site.code for site in network.sites]),
        "RANVIER_SMALL_COUNT_MAXIMUM": str(maximum),
        "RANVIER_ROUNDING": str(rounding),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(build_folder / "target"),
        "DBT_LOG_PATH": str(build_folder / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DO_NOT_TRACK": "1",
    }


def _write_reference(folder: Path, network: Network) -> None:
    """The dictionary and the network's sites as Parquet, for dbt to read like any other source."""
    sites = [{"site_code": site.code, "site_name": site.name} for site in network.sites]
    schema = {"site_code": pl.String, "site_name": pl.String}
    lake.write_parquet(folder / "site.parquet", pl.DataFrame(sites, schema=schema))
    rows = [
        {
            "entity": entity.name,
            "variable": v.name,
            "type": v.type,
            "unit": v.unit,
            "definition": v.definition,
            "source": v.source,
            "codes": "; ".join(f"{code}: {text}" for code, text in (v.codes or {}).items()) or None,
            "allowed_range": range_text(v) or None,
            "tier": v.tier,
            "generalised_to": v.generalise,
            "disclosure": v.disclosure,
            "since": v.since,
            "owner": v.owner,
        }
        for entity in load_dictionary().entities.values()
        for v in entity.variables
    ]
    lake.write_parquet(
        folder / "variable.parquet",
        pl.DataFrame(rows, schema={name: pl.String for name in rows[0]}),
    )


def inputs_sha256(home: Home) -> str:
    """Short name of what a release built now would follow from: lake, policy, dictionary, SQL.

    Findings are left out: telling a site of them changes their state, and they change with what they are about.
    """
    parts = sorted(home.lake.glob("raw_*/site=*/[!.]*.parquet"))
    lake_state = [
        [part.relative_to(home.lake).as_posix(), part.stat().st_size, part.stat().st_mtime_ns]
        for part in parts
        if part.parts[-3] != "raw_qa__finding" and part.parent.name != "site=_schema"
    ]
    network = home.network()
    rule = disclosure_rule(load_policy(), network)
    sites = [[site.code, site.name] for site in network.sites]
    return lake.sha256_json([lake_state, _project_hash(), repr(rule), sites, load_dictionary().model_dump(mode="json")])


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
    _write_reference(folder / "work" / "reference", network)
    cached = _cache_folder(home) / "partial_parse.msgpack"
    if cached.exists():  # dbt then parses only what differs
        (folder / "target").mkdir()
        shutil.copyfile(cached, folder / "target" / cached.name)
    return Build(version, folder, now, dbt_environment(home, folder, version, network), inputs_sha256(home))


def run_dbt(build: Build, *arguments: str) -> None:
    """`dbt build` into the build folder, as a process of its own.

    Raises
    ------
    ReleaseError
        dbt failed; the text names the models or tests that did.
    """
    command = [
        sys.executable,
        "-m",
        "dbt.cli.main",
        *(arguments or ("build",)),
        "--quiet",
    ]
    done = subprocess.run(
        command,
        env=os.environ | build.environment,
        cwd=build.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        failed = _failed_nodes(build)
        named = ", ".join(failed) if failed else "before the first model: " + _last_line(done.stdout + done.stderr)
        raise ReleaseError(f"dbt could not build release {build.version}: {named}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def _failed_nodes(build: Build) -> list[str]:
    results = build.folder / "target" / "run_results.json"
    if not results.exists():
        return []
    content = json.loads(results.read_text(encoding="utf-8"))
    return [
        str(result["unique_id"]).split(".")[2]
        for result in content["results"]
        if result["status"] in ("error", "fail", "runtime error", "skipped")
    ]


def _project_hash() -> str:
    digest = hashlib.sha256(package_version("dbt-core").encode())
    for path in sorted(PROJECT.rglob("*")):
        if path.is_file() and path.suffix in (".sql", ".yml"):
            digest.update(str(path.relative_to(PROJECT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder(home: Home) -> Path:
    return home.cache / "dbt" / _project_hash()


def prepare_dbt(home: Home) -> Path:
    """The project's parsed `manifest.json`, made once per content of the project. Returns its path.

    Raises
    ------
    ReleaseError
        The project cannot be parsed.
    """
    folder = _cache_folder(home)
    manifest = folder / "manifest.json"
    if manifest.exists():
        return manifest
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    environment = dbt_environment(home, draft, "1970-01-01.1", home.network())
    environment |= {"DBT_TARGET_PATH": str(draft), "DBT_LOG_PATH": str(draft / "logs")}
    (draft / "work").mkdir(parents=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", "parse", "--quiet"],
            env=os.environ | environment,
            cwd=draft,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ReleaseError(f"dbt cannot parse the project: {_last_line(done.stdout + done.stderr)}")
        try:
            draft.rename(folder)
        except OSError:  # another process was first; its copy is the same
            if not manifest.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _tier_files(build: Build) -> dict[str, Path]:
    """File of each tier and site, as it is called in the manifest -> path."""
    files = {f"{tier}.duckdb": build.folder / f"{tier}.duckdb" for tier in ("steward", "registered", "open")}
    for site in json.loads(build.environment["RANVIER_SITES"]):
        files[f"site/{site}.duckdb"] = build.folder / "site" / f"{site}.duckdb"
    return files


def _unshared_keys(steward: Path) -> set[str]:
    """Subject, session and series keys that may stand in no file but the steward's."""
    with duckdb.connect(str(steward), read_only=True) as db:
        rows = db.execute(
            "select subject_key from dim_subject where not is_shared"
            " union select session_key from fct_mri_session where not is_shared"
            " union select series_key from fct_mri_series where not is_shared"
            " union select series_key from fct_verdict where not is_shared"
        ).fetchall()
    return {row[0] for row in rows if row[0]}


def _texts(db: duckdb.DuckDBPyConnection, table: str, columns: list[str]) -> set[str]:
    found: set[str] = set()
    for column in columns:
        found.update(row[0] for row in db.execute(f'select distinct "{column}" from "{table}"').fetchall() if row[0])
    return found


def _check_file(name: str, path: Path, forbidden: set[str]) -> tuple[list[str], dict[str, int]]:
    """What is wrong with one file, and its tables' row counts.

    Both the bytes and the decoded texts are searched: DuckDB compresses strings, so a key need not stand in the bytes.
    """
    tier = name.split("/")[0].removesuffix(".duckdb")
    expected = {t.name: {c.name for c in t.columns} for t in load_policy().tiers[tier].values()}
    problems: list[str] = []
    counts: dict[str, int] = {}
    with duckdb.connect(str(path), read_only=True) as db:
        held: dict[str, dict[str, str]] = {}
        for schema, table, column, kind in db.execute(
            "select table_schema, table_name, column_name, data_type from information_schema.columns"
            " where table_catalog = current_database()"
        ).fetchall():
            held.setdefault(table if schema == "main" else f"{schema}.{table}", {})[column] = kind
        for table in sorted(set(held) | set(expected)):
            if set(held.get(table, {})) != expected.get(table, set()):
                problems.append(f"{name}: {table} does not hold what the policy says")
        if problems:
            return problems, counts
        for table, columns in sorted(held.items()):
            row = db.execute(f'select count(*) from "{table}"').fetchone()
            counts[table] = row[0] if row else 0
            if tier == "steward":
                continue
            for text in _texts(db, table, [c for c, kind in columns.items() if kind == "VARCHAR"]):
                if text in forbidden or any(k.decode() in forbidden for k in KEY_LIKE.findall(text.encode())):
                    problems.append(f"{name}: {table} holds a key of a subject who does not share")
                    break
    if tier != "steward" and _bytes_hold(path, forbidden):
        problems.append(f"{name} holds a key of a subject who does not share")
    return problems, counts


def _bytes_hold(path: Path, forbidden: set[str]) -> bool:
    wanted = {key.encode() for key in forbidden}
    tail = b""
    with path.open("rb") as handle:
        while chunk := handle.read(lake.CHUNK):
            block = tail + chunk
            if any(found in wanted for found in KEY_LIKE.findall(block)):
                return True
            tail = block[-32:]
    return False


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
    problems = [f"dbt: {name} failed" for name in _failed_nodes(build)]
    files = _tier_files(build)
    problems += [f"{name} was not written" for name, path in files.items() if not path.is_file()]
    if not (build.folder / "target" / "run_results.json").exists():
        problems.append("dbt has not run")
    if problems:
        raise ReleaseError(f"Release {build.version} is not published: {'; '.join(problems)}")
    forbidden = _unshared_keys(files["steward.duckdb"])
    counts: dict[str, dict[str, int]] = {}
    for name, path in files.items():
        wrong, counts[name] = _check_file(name, path, forbidden)
        problems += wrong
    network = home.network()
    manifest = {
        "version": build.version,
        "inputs_sha256": build.inputs_sha256,
        "built_datetime": build.started.isoformat(),
        "dictionary_version": load_dictionary().version,
        "code_version": _code_version(),
        "duckdb_version": duckdb.__version__,
        "dbt_project_sha256": _project_hash(),
        "small_count_maximum": int(build.environment["RANVIER_SMALL_COUNT_MAXIMUM"]),
        "rounding": int(build.environment["RANVIER_ROUNDING"]),
        "row_counts": counts,
        "files": {name: {"sha256": lake.sha256_file(path)} for name, path in files.items()},
        "sites": _site_states(home, network),
    }
    text = json.dumps(manifest)
    if any(key.decode() in forbidden for key in KEY_LIKE.findall(text.encode())):
        problems.append("manifest.json holds a key of a subject who does not share")
    if problems:
        raise ReleaseError(f"Release {build.version} is not published: {'; '.join(problems)}")
    for leftover in ("work", "target", "logs"):
        shutil.rmtree(build.folder / leftover, ignore_errors=True)
    keep = {"steward.duckdb", "registered.duckdb", "open.duckdb", "site", "lock"}
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
    draft = home.releases / f".current.{secrets.token_hex(4)}.tmp"
    draft.symlink_to(version)
    draft.replace(home.current_release)
    lake.fsync_folder(home.releases)
