"""The gate before a release: each file holds what the policy says, and no key of a subject who does not share.

Here: looking into one file. Not here: what the policy says (`warehouse.policy`), publishing (`warehouse.releases`).
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from warehouse import lake
from warehouse.policy import load_policy

KEY_LIKE = re.compile(rb"(?:sbj|ses|ser)_[0-9a-f]{16}")


def holds_key(text: str, forbidden: set[str]) -> bool:
    """Whether one of the keys stands in a text."""
    return any(key.decode() in forbidden for key in KEY_LIKE.findall(text.encode()))


def unshared_keys(steward: Path) -> set[str]:
    """Subject, session and series keys that may stand in no file but the steward's."""
    with duckdb.connect(str(steward), read_only=True) as db:
        rows = db.execute(
            "select subject_key from dim_subject where not is_shared"
            " union select session_key from fct_mri_session where not is_shared"
            " union select series_key from fct_mri_series where not is_shared"
            " union select series_key from fct_verdict where not is_shared"
        ).fetchall()
    return {row[0] for row in rows if row[0]}


def check_file(name: str, path: Path, forbidden: set[str]) -> tuple[list[str], dict[str, int]]:
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
        for table in sorted(held):
            row = db.execute(f'select count(*) from "{table}"').fetchone()
            counts[table] = row[0] if row else 0
    if tier != "steward":
        problems += forbidden_keys(name, path, forbidden)
    return problems, counts


def forbidden_keys(name: str, path: Path, forbidden: set[str]) -> list[str]:
    """Which tables of a file hold one of the keys, and whether its bytes do."""
    problems: list[str] = []
    with duckdb.connect(str(path), read_only=True) as db:
        texts = db.execute(
            "select table_name, column_name from information_schema.columns"
            " where table_catalog = current_database() and data_type = 'VARCHAR' order by 1, 2"
        ).fetchall()
        for table, column in texts:
            held = _texts(db, table, column, forbidden)
            if any(text in forbidden or holds_key(text, forbidden) for text in held):
                problems.append(f"{name}: {table} holds a key of a subject who does not share")
    if _bytes_hold(path, forbidden):
        problems.append(f"{name} holds a key of a subject who does not share")
    return list(dict.fromkeys(problems))


def _texts(db: duckdb.DuckDBPyConnection, table: str, column: str, forbidden: set[str]) -> list[str]:
    """The column's distinct texts that could matter: row keys of millions of rows are not brought over."""
    rows = db.execute(
        f'select distinct "{column}" from "{table}"'
        f' where regexp_matches("{column}", $1) or "{column}" in (select unnest($2))',
        [KEY_LIKE.pattern.decode(), sorted(forbidden)],
    ).fetchall()
    return [row[0] for row in rows]


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
