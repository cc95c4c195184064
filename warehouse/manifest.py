"""What a release says of itself: `manifest.json`.

Here: gathering it, and reading it back. Not here: building and publishing (`warehouse.releases`), judging
(`warehouse.gate`). It holds counts, hashes and versions, and keys of deliveries; never a value or a key of a subject.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import duckdb

from warehouse import dbt, lake
from warehouse.dictionary import load_dictionary
from warehouse.home import Home, Network
from warehouse.policy import FOLDER as POLICY_FOLDER
from warehouse.tables import LAKE_TABLES

NAME = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
    """The manifest in a release's folder."""
    content: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    return content


def input_hashes(home: Home) -> dict[str, dict[str, Any]]:
    """Per lake table with data: its parts, their bytes, and one SHA-256 over the parts' own."""
    found: dict[str, dict[str, Any]] = {}
    for table in LAKE_TABLES:
        parts = [p for p in sorted((home.lake / table).glob("site=*/[!.]*.parquet")) if p.parent.name != "site=_schema"]
        if parts:
            hashes = [[part.parent.name, part.name, lake.sha256_file(part)] for part in parts]
            found[table] = {
                "parts_count": len(parts),
                "bytes_count": sum(part.stat().st_size for part in parts),
                "sha256": lake.sha256_json(hashes),
            }
    return found


def code_version() -> str:
    """Version of this software."""
    try:
        return package_version("ranvier")
    except PackageNotFoundError:
        return "unknown"


def policy_facts(network: Network) -> dict[str, str]:
    """Name of the policy and the hash of its files and the network's overrides."""
    files = [
        [path.relative_to(POLICY_FOLDER).as_posix(), lake.sha256_file(path)]
        for path in sorted(POLICY_FOLDER.rglob("*.yaml"))
    ]
    return {
        "name": str(network.policy.get("preset", "default")),
        "sha256": lake.sha256_json([files, network.policy]),
    }


def dictionary_sha256() -> str:
    """Hash of everything the dictionary says."""
    return lake.sha256_json(load_dictionary().model_dump(mode="json"))


def site_states(home: Home, network: Network) -> dict[str, Any]:
    """Per site: deliveries in the release with their hashes, and whether the newest one is missing from it."""
    states: dict[str, Any] = {}
    for site in network.sites:
        received = lake.read_table(home, "raw_lake__delivery", site.code).sort("received_datetime", "delivery_key")
        accepted = lake.read_table(home, "raw_lake__accepted", site.code).sort("sequence_number")
        superseded = set(accepted["supersedes_delivery_key"].drop_nulls())
        included = [key for key in accepted["delivery_key"] if key not in superseded]
        newest = received.row(-1, named=True) if received.height else None
        is_failed = newest is not None and (newest["status"] == "unreadable" or newest["delivery_key"] not in included)
        hashes = dict(received.select("delivery_key", "manifest_sha256").iter_rows())
        states[site.code] = {
            "deliveries": included,
            "delivery_sha256": {key: hashes.get(key) for key in included},
            "is_newest_delivery_failed": is_failed,
            "newest_delivery": newest["delivery_key"] if newest else None,
            "failure_reason_code": newest["reason_code"] if newest and is_failed else None,
            "keeps_last_accepted": included[-1] if is_failed and included else None,
        }
    return states


def blank_counts(path: Path) -> dict[str, int]:
    """Per aggregate table of a file: how many of its counts are blank because few subjects stand behind them."""
    blanks: dict[str, int] = {}
    with duckdb.connect(str(path), read_only=True) as db:
        tables = db.execute(
            "select table_name, list(column_name) from information_schema.columns"
            " where table_catalog = current_database() group by 1 having bool_or(column_name = 'subject_count')"
        ).fetchall()
        for table, columns in sorted(tables):
            empty = " + ".join(f'count(*) filter ("{c}" is null)' for c in columns if c.endswith("_count"))
            row = db.execute(f'select {empty} from "{table}"').fetchone()
            blanks[table] = int(row[0]) if row else 0
    return blanks


def gather(
    home: Home,
    network: Network,
    *,
    version: str,
    built: str,
    inputs_sha256: str,
    inputs: dict[str, dict[str, Any]],
    files: dict[str, Path],
    row_counts: dict[str, dict[str, int]],
    rule: tuple[int, int],
) -> dict[str, Any]:
    """The manifest of a build that the gate let through.

    Parameters
    ----------
    inputs
        `input_hashes` of the time the build began.
    files
        Name in the manifest -> path.
    rule
        Largest count that is blanked, and the base of rounding.
    """
    return {
        "version": version,
        "built_datetime": built,
        "inputs_sha256": inputs_sha256,
        "inputs": inputs,
        "dictionary_version": load_dictionary().version,
        "dictionary_sha256": dictionary_sha256(),
        "code_version": code_version(),
        "duckdb_version": duckdb.__version__,
        "dbt_project_sha256": dbt.project_hash(),
        "policy": policy_facts(network),
        "small_count_maximum": rule[0],
        "rounding": rule[1],
        "row_counts": row_counts,
        "suppressed_counts": {name: blank_counts(path) for name, path in files.items() if name != "steward.duckdb"},
        "files": {
            name: {"sha256": lake.sha256_file(path), "bytes_count": path.stat().st_size} for name, path in files.items()
        },
        "sites": site_states(home, network),
        "gate": {"is_passed": True, "problems": []},
    }
