"""Compares the mirror with the release it says it holds, table by table.

Here: counts and hashes of rows, in any order. Not here: repairing; publishing again does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from warehouse import lake, releases
from warehouse.home import Home
from warehouse.mirror.databases import SCHEMA, Target, list_databases, read_state, tier_files
from warehouse.mirror.load import Source, duckdb_beside, sources
from warehouse.mirror.server import ADMIN, connect
from warehouse.work import Progress, silent


@dataclass(frozen=True)
class Compared:
    """A table in the tier's file and in the mirror."""

    target: Target
    table: str
    rows_file: int | None
    """None when the file has no such table."""
    rows_mirror: int | None
    is_equal: bool
    """Same columns, count and content."""


def verify(home: Home, say: Progress = silent) -> tuple[list[Compared], list[str]]:
    """Every table compared, and what is wrong besides, in words.

    DuckDB reads both sides and hashes each row; the sum of the hashes and the count do not depend on the order, and a
    row that stands twice counts twice.

    Raises
    ------
    MirrorError
        The server does not answer or is not set up.
    ReleaseError
        There is no release.
    """
    folder = releases.release_folder(home)
    files = tier_files(folder)
    compared: list[Compared] = []
    wrong: list[str] = []
    with connect(ADMIN) as admin:
        databases = list_databases(admin)
    wrong += [f"{target} is not in the mirror" for target in files if target not in databases]
    wrong += [f"{target} is in the mirror and not in the release" for target in databases if target not in files]
    for target, path in files.items():
        if target not in databases:
            continue
        state = read_state(databases[target], target)
        if state.version != folder.name:
            wrong.append(f"{target} holds {state.version or 'no release'}, not {folder.name}")
        elif state.sha256 != lake.sha256_file(path):
            wrong.append(f"{target} was loaded from another file than the release holds now")
        if state.version is not None:
            compared += _compare(target, path, databases[target], say)
    return compared, wrong


def _compare(target: Target, path: Path, database: str, say: Progress) -> list[Compared]:
    found = []
    with connect(database) as connection:
        rows = connection.execute(
            "select relname, array_agg(attname::text order by attnum) from pg_class join pg_attribute on attrelid ="
            " pg_class.oid where relnamespace = to_regnamespace(%s) and relkind = 'r' and attnum > 0"
            " and not attisdropped group by 1",
            [SCHEMA],
        ).fetchall()
        mirrored: dict[str, list[str]] = dict(rows)
    with duckdb_beside(path, database) as db:
        tables = sources(db)
        for number, table in enumerate(tables):
            say(str(target), number + 1, len(tables))
            if table.name not in mirrored:
                found.append(Compared(target, table.name, table.rows, None, False))
                continue
            columns = mirrored.pop(table.name)
            if columns != table.names:
                found.append(Compared(target, table.name, table.rows, _count(db, table.name), False))
                continue
            file, mirror = _content(db, "tier.main", table), _content(db, f"mirror.{SCHEMA}", table)
            found.append(Compared(target, table.name, file[0], mirror[0], file == mirror))
        found += [Compared(target, name, None, _count(db, name), False) for name in sorted(mirrored)]
    return found


def _count(db: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(db.execute(f'select count(*) from mirror.{SCHEMA}."{table}"').fetchall()[0][0])


def _content(db: duckdb.DuckDBPyConnection, schema: str, table: Source) -> tuple[int, int | None]:
    """Rows, and the sum of their hashes."""
    # Types that PostgreSQL lacks come back wider; as the file's own type they hash the same.
    row = ", ".join(f'cast("{name}" as {kind})' for name, kind in table.columns)
    (count, total) = db.execute(f'select count(*), sum(hash({row})::hugeint) from {schema}."{table.name}"').fetchall()[
        0
    ]
    return count, total
