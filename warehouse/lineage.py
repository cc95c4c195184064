"""Where a row of the warehouse comes from: back to the delivery, its files, the measures' methods and the code.

Here: following the keys of one row through the steward's file and the lake. Not here: who may ask (the steward's grain
is a data manager's), the catalogue of variables. Places are told as a site knows them, by the number of file and row.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from warehouse import dbt, lake, manifest, releases
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.policy import load_policy

KEYS = (
    "series_key",
    "session_key",
    "subject_key",
    "row_key",
    "finding_key",
    "scanner_key",
    "site_code",
    "measure",
    "variable",
)
"""Columns that a row may be asked for by, the nearest to a single row first."""
MOST_ROWS = 20
REGISTRY = {
    "dim_subject": "patient",
    "fct_visit": "visit",
    "fct_relapse": "relapse",
    "fct_treatment": "treatment",
    "fct_mri_session": "mri_session",
}
"""Tables whose rows come from a registry table of the sites."""

Row = dict[str, Any]


def lineage(home: Home, table: str, key: str, *, release: str | None = None) -> dict[str, Any]:
    """Follow the rows of a table that a key names back to their sources.

    Parameters
    ----------
    table
        A table of the steward's file, such as `mart_imaging_qa`.
    key
        A series, session, subject, row, finding or scanner key, or another value of the table's key.

    Returns
    -------
    Plain dictionaries: `release`, `models` (what the table is made from), `rows` (at most 20) and `rows_count`.

    Raises
    ------
    ReleaseError
        There is no such release.
    RanvierError
        There is no such table or row; the text says what there is.
    """
    folder = releases.release_folder(home, release)
    content = manifest.read(folder)
    with duckdb.connect(str(folder / "steward.duckdb"), read_only=True) as db:
        columns = _columns(db, table)
        found = _find(db, table, columns, key)
        if found is None:
            raise RanvierError(_no_row(table, columns, key, content["version"]))
        column, rows, count = found
        return {
            "table": table,
            "key_column": column,
            "key": key,
            "release": _release(content),
            "models": _models(home, table, content),
            "rows_count": count,
            "rows": [_trace(home, db, table, row) for row in rows],
        }


def _rows(db: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any]) -> list[Row]:
    cursor = db.execute(sql, parameters)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _columns(db: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    held: dict[str, list[str]] = {}
    for name, column in db.execute(
        "select table_name, column_name from duckdb_columns() where database_name = current_database()"
        " and not internal order by table_name, column_index"
    ).fetchall():
        held.setdefault(name, []).append(column)
    if table not in held:
        near = get_close_matches(table, held, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RanvierError(f"The steward's file has no table {table[:60]!r}{hint} It has: {', '.join(sorted(held))}")
    return held[table]


def _find(db: duckdb.DuckDBPyConnection, table: str, columns: list[str], key: str) -> tuple[str, list[Row], int] | None:
    declared = load_policy().tiers["steward"].get(table)
    asked = dict.fromkeys([*KEYS, *(declared.key if declared else ())])
    for column in (name for name in asked if name in columns):
        rows = _rows(db, f'select * from "{table}" where "{column}"::varchar = $1 limit {MOST_ROWS}', [key])
        if rows:
            count = db.execute(f'select count(*) from "{table}" where "{column}"::varchar = $1', [key]).fetchone()
            return column, rows, count[0] if count else len(rows)
    return None


def _no_row(table: str, columns: list[str], key: str, version: str) -> str:
    named = [name for name in KEYS if name in columns] or columns[:1]
    return (
        f"{table} of release {version} has no row with the key {key[:60]!r}; it is asked for by {' or '.join(named)}."
        f' See some with: ranvier sql --tier steward "select {named[0]} from {table} limit 5"'
    )


def _release(content: dict[str, Any]) -> dict[str, Any]:
    wanted = (
        "version",
        "built_datetime",
        "code_version",
        "dbt_project_sha256",
        "dictionary_version",
        "dictionary_sha256",
        "policy",
        "supersedes",
    )
    return {name: content[name] for name in wanted if name in content}


def _models(home: Home, table: str, content: dict[str, Any]) -> dict[str, Any] | None:
    """What dbt makes the table from, where the project that built the release is the one at hand."""
    parsed = home.cache / "dbt" / str(content["dbt_project_sha256"]) / "manifest.json"
    if not parsed.exists():
        if content["dbt_project_sha256"] != dbt.project_hash():
            return None
        parsed = dbt.prepare(home)
    project = json.loads(parsed.read_text(encoding="utf-8"))
    nodes = project["nodes"] | project["sources"]
    start = f"model.ranvier.{table}"
    if start not in nodes:
        return None
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for parent in nodes[waiting.pop()].get("depends_on", {}).get("nodes", []):
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return {
        "model": nodes[start]["original_file_path"],
        "directly_from": sorted(nodes[name]["name"] for name in nodes[start]["depends_on"]["nodes"]),
        "sources": sorted(nodes[name]["name"] for name in seen if name.startswith("source.")),
    }


def _trace(home: Home, db: duckdb.DuckDBPyConnection, table: str, row: Row) -> Row:
    declared = load_policy().tiers["steward"].get(table)
    names = dict.fromkeys([*(declared.key if declared else ()), *KEYS])
    traced: Row = {"key": {name: row[name] for name in names if row.get(name) is not None}}
    site, delivery = row.get("site_code"), row.get("delivery_key")
    if site and delivery:
        traced["delivery"] = _delivery(home, site, delivery)
    if site and delivery and table in REGISTRY:
        traced["source_row"] = _registry_row(home, REGISTRY[table], site, delivery, row)
    if row.get("series_key"):
        traced |= _series(home, db, row["series_key"])
    elif table == "fct_mri_session" and row.get("session_key"):
        found = _rows(
            db, "select series_key from fct_mri_series where session_key = $1 order by 1", [row["session_key"]]
        )
        traced["series"] = [series["series_key"] for series in found]
    if table == "mart_imaging_qa" and row.get("edss") is not None:
        traced["edss_from"] = _visits_behind(home, db, row)
    if table == "fct_finding":
        traced["finding"] = {
            name: row[name] for name in ("rule_id", "entity_kind", "where_found", "first_seen_datetime")
        }
    return traced


def _delivery(home: Home, site: str, delivery: str) -> Row:
    facts: Row = {"site_code": site, "delivery_key": delivery}
    received = lake.read_table(home, "raw_lake__delivery", site).filter(pl.col("delivery_key") == delivery)
    for one in received.iter_rows(named=True):
        facts |= {name: one[name] for name in ("display_name", "received_datetime", "files_count", "manifest_sha256")}
    accepted = lake.read_table(home, "raw_lake__accepted", site).filter(pl.col("delivery_key") == delivery)
    for one in accepted.iter_rows(named=True):
        facts |= {name: one[name] for name in ("accepted_datetime", "sequence_number")}
    return facts


def _lake_rows(home: Home, table: str, site: str, delivery: str, where: pl.Expr) -> list[Row]:
    path: Path = lake.part_path(home, table, site, delivery)
    if not path.exists():
        return []
    return pl.scan_parquet(path, hive_partitioning=False).filter(where).collect().to_dicts()


def _file(home: Home, site: str, delivery: str, first: int, last: int) -> Row:
    between = pl.col("file_number").is_between(first, last)
    files = _lake_rows(home, "raw_lake__file", site, delivery, between)
    hashes = [file["sha256"] for file in sorted(files, key=lambda file: file["file_number"])]
    facts: Row = {"first_file_number": first, "last_file_number": last, "files_found_count": len(files)}
    if len(files) == 1:
        return facts | {"display_name": files[0]["display_name"], "sha256": hashes[0]}
    return facts | {"sha256_of_hashes": lake.sha256_json(hashes) if hashes else None}


def _registry_row(home: Home, entity: str, site: str, delivery: str, row: Row) -> Row | None:
    """File and row of the site's table, found by the row's key; a subject's by subject."""
    if row.get("row_key"):
        where = pl.col("row_key") == row["row_key"]
    elif row.get("source_row") is not None:
        where = (pl.col("subject_key") == row["subject_key"]) & (pl.col("source_row") == row["source_row"])
    else:
        return None
    for found in _lake_rows(home, f"raw_registry__{entity}", site, delivery, where):
        number = found["file_number"]
        return {
            "registry_table": entity,
            "row_key": found["row_key"],
            "source_row": found["source_row"],
            "file": _file(home, site, delivery, number, number),
        }
    return None


def _series(home: Home, db: duckdb.DuckDBPyConnection, series_key: str) -> Row:
    traced: Row = {}
    for found in _rows(db, "select * from fct_mri_series where series_key = $1", [series_key]):
        files = _file(
            home,
            found["site_code"],
            found["delivery_key"],
            found["first_file_number"] or 0,
            found["last_file_number"] or 0,
        )
        names = (
            "series_key",
            "series_number",
            "source",
            "files_count",
            "converter_version",
            "ledger_sha256",
            "image_sha256",
            "bids_path",
        )
        traced["series"] = {name: found[name] for name in names} | {"files": files}
    traced["measures"] = _rows(
        db,
        "select method_version, mask_sha256, list(measure order by measure) as measures from fct_image_measure"
        " where series_key = $1 group by all order by all",
        [series_key],
    )
    verdict = _rows(
        db,
        "select verdict, rule_ids, thresholds_sha256, judged_datetime from fct_verdict where series_key = $1",
        [series_key],
    )
    traced["verdict"] = verdict[0] if verdict else None
    return traced


def _visits_behind(home: Home, db: duckdb.DuckDBPyConnection, row: Row) -> list[Row]:
    """The visit whose EDSS stands beside a series; two where two visits are equally near."""
    visits = _rows(
        db,
        "select * from fct_visit where subject_key = $1 and edss = $2"
        " and abs(date_diff('day', $3::date, visit_date)) = $4 order by visit_number",
        [row["subject_key"], row["edss"], row["acquisition_datetime"], row["edss_days_apart"]],
    )
    return [
        {
            "row_key": visit["row_key"],
            "delivery_key": visit["delivery_key"],
            "source_row": _registry_row(home, "visit", visit["site_code"], visit["delivery_key"], visit),
        }
        for visit in visits
    ]
