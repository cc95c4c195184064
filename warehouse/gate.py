"""The gate before a release: each file holds what the policy says, and no key of a subject who does not share.

Here: looking into one file. Not here: what the policy says (`warehouse.policy`), publishing (`warehouse.releases`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import duckdb

from warehouse import lake
from warehouse.policy import Policy, load_policy

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


def all_keys(steward: Path) -> set[str]:
    """Every subject, session and series key of the network: a project's file has its own keys and none of these."""
    with duckdb.connect(str(steward), read_only=True) as db:
        rows = db.execute(
            "select subject_key from dim_subject union select session_key from fct_mri_session"
            " union select series_key from fct_mri_series union select series_key from fct_verdict"
        ).fetchall()
    return {row[0] for row in rows if row[0]}


def check_anonymity(name: str, path: Path, policy: Policy) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with the k-anonymity and l-diversity of a finished file, and what it reaches.

    A class without any value of a sensitive column tells nothing of it, and is left out of l.
    """
    rule = policy.rules[name.split("/")[0].removesuffix(".duckdb")]
    reached = reached_anonymity(name, path, policy)
    columns = ", ".join(rule.suppress_first)
    problems: list[str] = []
    if reached["k"] is not None and reached["k"] < rule.k:
        problems.append(f"{name}: a class of dim_subject by {columns} has fewer than {rule.k} subjects")
    for column, value in reached["l"].items():
        if value is not None and value < rule.l:
            problems.append(f"{name}: a class of dim_subject by {columns} has fewer than {rule.l} values of {column}")
    return problems, {"k_asked": rule.k, "l_asked": rule.l if reached["l"] else 1} | reached


def reached_anonymity(name: str, path: Path, policy: Policy) -> dict[str, Any]:
    """Subjects in the smallest class of a file's `dim_subject` (`k`), and fewest values of each sensitive column (`l`).

    Columns that an older release does not hold are left out.
    """
    rule = policy.rules[name.split("/")[0].removesuffix(".duckdb")]
    with duckdb.connect(str(path), read_only=True) as db:
        held = {row[0] for row in db.execute("select column_name from (describe dim_subject)").fetchall()}
        columns = [column for column in rule.suppress_first if column in held] or ["1"]
        sensitive = [column for column in rule.sensitive_held if column in held]
        inner = "".join(f", count(distinct {c}) as d{i}, count({c}) as v{i}" for i, c in enumerate(sensitive))
        outer = "".join(f", min(d{i}) filter (where v{i} > 0)" for i in range(len(sensitive)))
        row = db.execute(
            f"select min(n){outer} from (select count(*) as n{inner} from dim_subject group by {', '.join(columns)})"
        ).fetchone()
    smallest, *fewest = row or (None,)
    return {"k": smallest, "l": dict(zip(sensitive, fewest, strict=True))}


def in_small_classes(name: str, path: Path, policy: Policy, k: int, diversity: int) -> set[str]:
    """Subjects of a file with k-anonymity whose class has become smaller than k, or less diverse than asked."""
    rule = policy.rules[name.split("/")[0].removesuffix(".duckdb")]
    with duckdb.connect(str(path), read_only=True) as db:
        held = {row[0] for row in db.execute("select column_name from (describe dim_subject)").fetchall()}
        columns = [column for column in rule.suppress_first if column in held]
        if not columns:
            return set()
        window = f"over (partition by {', '.join(columns)})"
        poor = "".join(
            f" or count({c}) {window} > 0 and len(list_distinct(list({c}) {window})) < {diversity}"
            for c in rule.sensitive_held
            if c in held
        )
        rows = db.execute(f"select subject_key from dim_subject qualify count(*) {window} < {k}{poor}").fetchall()
    return {row[0] for row in rows}


def suppression(build: Path) -> dict[str, dict[str, Any]]:
    """Per file with k-anonymity: subjects kept and left out, and cells emptied per column."""
    found: dict[str, dict[str, Any]] = {}
    with duckdb.connect(str(build), read_only=True) as db:
        for name, column, subjects, cells, left_out in db.execute("select * from core_suppression").fetchall():
            entry = found.setdefault(
                name, {"subjects": subjects, "subjects_left_out": left_out, "cells_suppressed": {}}
            )
            entry["cells_suppressed"][column] = cells
    return found


def check_file(
    name: str, path: Path, forbidden: set[str], policy: Policy | None = None, scopes: Collection[str] = ()
) -> tuple[list[str], dict[str, int]]:
    """What is wrong with one file, and its tables' row counts.

    `policy` is the one in force, by default the tiers' own; `scopes` are those of a project's file. Both the bytes and
    the decoded texts are searched: DuckDB compresses strings, so a key need not stand in the bytes.
    """
    tier = name.split("/")[0].removesuffix(".duckdb")
    expected = {
        t.name: {c.name for c in t.columns}
        for t in (policy or load_policy()).tiers[tier].values()
        if t.scope is None or t.scope in scopes
    }
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
