"""Fills `release_next` of one database from one tier file: tables, rows, keys, indexes, comments, statistics.

Here: everything before users see it. Not here: the swap (`warehouse.mirror.publish`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb
from psycopg import sql

from warehouse.catalogue_sql import described
from warehouse.errors import MirrorError
from warehouse.mirror.databases import NEXT, Target
from warehouse.mirror.server import Connection, conninfo
from warehouse.policy import Policy, Table, load_policy
from warehouse.work import Progress

TYPES = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "UTINYINT": "smallint",
    "USMALLINT": "integer",
    "UINTEGER": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "UUID": "uuid",
    "VARCHAR[]": "text[]",
}
BLOCK = 250_000
"""Rows that are copied by one statement, between two words about progress."""
COPIES = 2
"""Statements at once."""
DECIMAL = re.compile(r"^DECIMAL\((\d+),(\d+)\)$")
JOINED_BY = re.compile(r"_key$|^measure$|^variable$")
"""Columns that the marts join by; each has an index."""


@dataclass(frozen=True)
class Source:
    """A table of a tier file."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """Name and DuckDB type, in order."""
    rows: int

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]


@contextmanager
def duckdb_beside(path: Path, database: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that sees a tier file as `tier` and the mirror's database as `mirror`.

    Raises
    ------
    MirrorError
        DuckDB could not read or write. Its own words are left out: they can hold values.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    try:
        with duckdb.connect(config=config) as db:
            folder = files("duckdb_extension_postgres_scanner") / "extensions" / f"v{duckdb.__version__}"
            db.load_extension(str(folder / "postgres_scanner.duckdb_extension"))
            db.execute(f"attach '{_escaped(str(path))}' as tier (read_only)")
            db.execute(f"attach '{_escaped(conninfo(database))}' as mirror (type postgres)")
            yield db
    except duckdb.Error as error:
        raise MirrorError(
            f"DuckDB could not copy {path.name} ({type(error).__name__}); what is served is unchanged. Check that the"
            " server has room and answers, and run the same command again"
        ) from None


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def sources(db: duckdb.DuckDBPyConnection) -> list[Source]:
    """Tables of the tier file. Raises MirrorError when a column has a type that PostgreSQL has no counterpart for."""
    found = []
    tables = db.execute(
        "select table_name from duckdb_tables() where database_name = 'tier' and schema_name = 'main' order by 1"
    ).fetchall()
    for (table,) in tables:
        columns = db.execute(
            "select column_name, data_type from duckdb_columns() where database_name = 'tier' and schema_name = 'main'"
            " and table_name = ? order by column_index",
            [table],
        ).fetchall()
        for column, kind in columns:
            _type(table, column, kind)
        (rows,) = db.execute(f'select count(*) from tier.main."{table}"').fetchall()[0]
        found.append(Source(table, tuple(columns), rows))
    return found


def _type(table: str, column: str, kind: str) -> str:
    if decimal := DECIMAL.match(kind):
        return f"numeric({decimal[1]}, {decimal[2]})"
    if kind in ("HUGEINT", "UBIGINT"):
        return "numeric(38, 0)"
    if kind not in TYPES:
        raise MirrorError(f"{table}.{column} has the type {kind}, which the mirror cannot hold; cast it in its mart")
    return TYPES[kind]


def fill(connection: Connection, path: Path, database: str, target: Target, say: Progress) -> list[Source]:
    """Load a tier file into an empty `release_next`. What a killed load left there is dropped first.

    Raises
    ------
    MirrorError
        A type has no counterpart, or the copy failed. What is served is unchanged.
    """
    schema = sql.Identifier(NEXT)
    connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))
    connection.execute(sql.SQL("create schema {}").format(schema))
    with duckdb_beside(path, database) as db:
        tables = sources(db)
        for table in tables:
            _create(connection, table)
        _copy(db, tables, target, say)
        declared = described_tables(target)
        keyed = {table.name: _key(db, table, declared.get(table.name)) for table in tables}
    for number, table in enumerate(tables):
        say(f"{target}: indexes", number, len(tables))
        _index(connection, table, keyed[table.name])
        _comment(connection, table, declared.get(table.name))
        name = sql.Identifier(NEXT, table.name)
        connection.execute(sql.SQL("grant select on {} to {}").format(name, sql.Identifier(database)))
        # Frozen and all visible: no autovacuum has a reason to come, and an index alone can answer.
        connection.execute(sql.SQL("vacuum (freeze, analyze) {}").format(name))
    say(f"{target}: indexes", len(tables), len(tables))
    return tables


def _copy(db: duckdb.DuckDBPyConnection, tables: list[Source], target: Target, say: Progress) -> None:
    """Copy all rows, block by block, over some connections at once: the server works on one core for each."""
    total = sum(table.rows for table in tables)
    blocks = [(table, first) for table in tables for first in range(0, table.rows, BLOCK)]

    def copy(table: Source, first: int) -> int:
        names = ", ".join(f'"{name}"' for name in table.names)
        with db.cursor() as cursor:
            cursor.execute(
                f'insert into mirror.{NEXT}."{table.name}" ({names}) select {names} from tier.main."{table.name}"'
                " where rowid between ? and ?",
                [first, first + BLOCK - 1],
            )
        return min(BLOCK, table.rows - first)

    done = 0
    with ThreadPoolExecutor(COPIES) as pool:
        for finished in as_completed([pool.submit(copy, *block) for block in blocks]):
            done += finished.result()
            say(str(target), done, total)


def _create(connection: Connection, table: Source) -> None:
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_type(table.name, name, kind)))
        for name, kind in table.columns
    ]
    # Autovacuum on a table that is about to be renamed or dropped deadlocks with it.
    connection.execute(
        sql.SQL("create table {} ({}) with (autovacuum_enabled = off, toast.autovacuum_enabled = off)").format(
            sql.Identifier(NEXT, table.name), sql.SQL(", ").join(columns)
        )
    )


def described_tables(target: Target) -> dict[str, Table]:
    """What the policy says of the target's tables, for keys and comments."""
    policy: Policy = load_policy()
    return policy.tiers.get(target.tier) or {}


def _key(db: duckdb.DuckDBPyConnection, table: Source, declared: Table | None) -> list[str]:
    """The declared key, when its columns are there, filled and unique: else it is no primary key."""
    if declared is None or not set(declared.key) <= set(table.names):
        return []
    key = list(declared.key)
    names = ", ".join(f'"{name}"' for name in key)
    missing = " or ".join(f'"{name}" is null' for name in key)
    row = db.execute(
        f"select count(*) filter (where {missing}), (select count(*) from (select distinct {names} from"
        f' tier.main."{table.name}")) from tier.main."{table.name}"'
    ).fetchone()
    return key if row == (0, table.rows) else []


def _index(connection: Connection, table: Source, key: list[str]) -> None:
    name = sql.Identifier(NEXT, table.name)
    if key:
        columns = sql.SQL(", ").join(map(sql.Identifier, key))
        connection.execute(sql.SQL("alter table {} add primary key ({})").format(name, columns))
    for column, kind in table.columns:
        if kind == "VARCHAR" and JOINED_BY.search(column) and column != (key or [""])[0]:
            connection.execute(sql.SQL("create index on {} ({})").format(name, sql.Identifier(column)))


def _comment(connection: Connection, table: Source, declared: Table | None) -> None:
    if declared is None:
        return
    name = sql.Identifier(NEXT, table.name)
    connection.execute(sql.SQL("comment on table {} is {}").format(name, sql.Literal(declared.description)))
    for column in declared.columns:
        if column.name in table.names:
            place = sql.Identifier(NEXT, table.name, column.name)
            connection.execute(sql.SQL("comment on column {} is {}").format(place, sql.Literal(described(column))))
