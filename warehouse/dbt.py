"""What the warehouse tells dbt and hears from it: its environment, the parsed project, what failed.

Here: everything about `dbt_project/` that is no SQL. Not here: running it (`orchestration`), what it fills
(`warehouse.releases`).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version as package_version
from pathlib import Path

import polars as pl

from warehouse import lake
from warehouse.dictionary import dmts, load_dictionary, range_text
from warehouse.errors import ReleaseError
from warehouse.home import Home, Network
from warehouse.policy import in_force, load_policy, settings_for_dbt
from warehouse.projects import Project
from warehouse.projects import settings_for_dbt as projects_for_dbt

PROJECT = Path(__file__).parent.parent / "dbt_project"


def build_link(home: Home) -> Path:
    """The symlink by which dbt finds the build folder: dbt parses its whole project again when a path in it differs."""
    return home.cache / "dbt_build"


def environment_of(
    home: Home, build_folder: Path, version: str, network: Network, projects: Sequence[Project] = ()
) -> dict[str, str]:
    """What `dbt_project/` reads from its environment; nothing of dbt is written outside the build folder."""
    policy = in_force(load_policy(), network)
    return {
        "RANVIER_BUILD": str(build_link(home)),
        "RANVIER_LAKE": str(home.lake),
        "RANVIER_REFERENCE": str(build_link(home) / "work" / "reference"),
        "RANVIER_VERSION": version,
        "RANVIER_SITES": json.dumps([site.code for site in network.sites]),
        "RANVIER_SMALL_COUNT_MAXIMUM": str(policy.small_count_maximum),
        "RANVIER_ROUNDING": str(policy.rounding),
        "RANVIER_POLICY": json.dumps(settings_for_dbt(policy), sort_keys=True),
        "RANVIER_PROJECTS": json.dumps(projects_for_dbt(policy, projects)),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(build_folder / "target"),
        "DBT_LOG_PATH": str(build_folder / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DO_NOT_TRACK": "1",
    }


def write_reference(folder: Path, network: Network) -> None:
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
            "msda": v.msda,
            "sdtm": v.sdtm,
            "omop": v.omop,
            "is_verified": v.verified,
            "note": v.note,
        }
        for entity in load_dictionary().entities.values()
        for v in entity.variables
    ]
    types = {name: pl.Boolean if name == "is_verified" else pl.String for name in rows[0]}
    lake.write_parquet(folder / "variable.parquet", pl.DataFrame(rows, schema=types))
    lake.write_parquet(folder / "dmt.parquet", dmts())


def project_hash() -> str:
    digest = hashlib.sha256(package_version("dbt-core").encode())
    for path in sorted(PROJECT.rglob("*")):
        if path.is_file() and path.suffix in (".sql", ".yml", ".py"):
            digest.update(str(path.relative_to(PROJECT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(home: Home) -> Path:
    return home.cache / "dbt" / project_hash()


def prepare(home: Home) -> Path:
    """The project's parsed `manifest.json`, made once per content of the project. Returns its path.

    Raises
    ------
    ReleaseError
        The project cannot be parsed.
    """
    folder = cache_folder(home)
    manifest = folder / "manifest.json"
    if manifest.exists():
        return manifest
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    environment = environment_of(home, draft, "1970-01-01.1", home.network())
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


def failed_nodes(target: Path) -> list[str]:
    results = target / "run_results.json"
    if not results.exists():
        return []
    content = json.loads(results.read_text(encoding="utf-8"))
    return [
        str(result["unique_id"]).split(".")[2]
        for result in content["results"]
        if result["status"] in ("error", "fail", "runtime error", "skipped")
    ]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
