"""From the text of a question to its rows, on a connection that is locked down already.

Here: size and depth of a statement, EXPLAIN, the largest answer, and errors of DuckDB in words that help. Not here:
which statements are answered (`warehouse.select_only`), the connection and its process (`warehouse.gateway_process`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from warehouse.errors import QueryRefused
from warehouse.plan import plan_table
from warehouse.select_only import check

LONGEST = 100_000
"""Characters of a statement."""
DEEPEST = 200
"""Brackets open at once. DuckDB's own limit is 1,000 expressions; generated SQL of analysts stays below 20."""
LARGEST = 2 << 30
"""Bytes of an answer as Arrow: fifteen million visits. More is a copy of the tier and not a question."""
BATCH_ROWS = 10_000
EXPLAIN = re.compile(r"\A(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Names:
    """What a tier's file holds, and which names mean something to DuckDB itself."""

    columns: dict[str, frozenset[str]]
    """Table -> its columns."""
    catalogue: frozenset[str]

    @classmethod
    def read(cls, db: duckdb.DuckDBPyConnection) -> Names:
        """Read them from an open tier's file."""
        columns: dict[str, set[str]] = {}
        for table, column in db.execute(
            "select table_name, column_name from duckdb_columns() where not internal and schema_name = 'main'"
            " and database_name = current_database()"
            " and table_name in (select table_name from duckdb_tables() where not internal)"
        ).fetchall():
            columns.setdefault(table, set()).add(column)
        views = db.execute("select view_name from duckdb_views()").fetchall()
        return cls(
            {table: frozenset(held) for table, held in columns.items()},
            frozenset(name.lower() for (name,) in views),
        )

    @property
    def known(self) -> frozenset[str]:
        """Names of tables and columns, in lower case."""
        every = {column for held in self.columns.values() for column in held} | set(self.columns)
        return frozenset(name.lower() for name in every)


def run(db: duckdb.DuckDBPyConnection, sql: str, names: Names) -> pa.RecordBatchReader:
    """Start one statement: a SELECT, or EXPLAIN and a SELECT, which is planned and not run.

    Raises
    ------
    QueryRefused
        It is too long or too deep, or asks for what the tier does not allow.
    duckdb.Error, pyarrow.ArrowException, MemoryError, RecursionError
        It failed; `sentence` says so in words.
    """
    refuse_by_size(sql)
    explain = EXPLAIN.match(sql)
    select = sql[explain.end() :] if explain else sql
    row = db.execute("select json_serialize_sql(?::varchar)", [select]).fetchone()
    check(json.loads(row[0]) if row else {"error": True}, set(names.columns), set(names.catalogue))
    if not explain:
        return db.execute(select).to_arrow_reader(BATCH_ROWS)
    plan = db.execute(f"explain (format json) {select}").fetchall()
    return plan_table(json.loads(plan[0][1])).to_reader()


def refuse_by_size(sql: str) -> None:
    """Refuse a statement that is too long or too deep to be read safely. Raises QueryRefused."""
    if len(sql) > LONGEST:
        raise QueryRefused(f"The statement is longer than {LONGEST} characters")
    if "\0" in sql or any("\ud800" <= character <= "\udfff" for character in sql):
        raise QueryRefused("The statement holds characters that are no text; send it as UTF-8 without NUL")
    depth = 0
    for character in sql:
        if character in "([{":
            depth += 1
            if depth > DEEPEST:
                raise QueryRefused(
                    f"The statement is nested too deeply; at most {DEEPEST} brackets may be open at once"
                )
        elif character in ")]}":
            depth -= 1


def bounded(batches: Iterator[pa.RecordBatch], most: int = LARGEST) -> Iterator[pa.RecordBatch]:
    """Batches up to `most` bytes together. Raises QueryRefused beyond."""
    left = most
    for batch in batches:
        left -= batch.nbytes
        if left < 0:
            raise QueryRefused(
                f"The answer is larger than {most >> 20} MB and was stopped; ask for fewer rows or columns"
            )
        yield batch


def sentence(error: BaseException, names: Names, sql: str, memory: str) -> str:
    """What went wrong in one sentence, with the nearest right name, and without any path."""
    if isinstance(error, QueryRefused):
        return str(error)
    if isinstance(error, RecursionError):
        return "The statement is nested too deeply; break it into common table expressions"
    if isinstance(error, duckdb.InterruptException) or "nterrupt" in str(error):
        return "The query took too long and was stopped; ask for less at once"
    if not isinstance(error, duckdb.Error) or isinstance(error, duckdb.OutOfMemoryException | duckdb.FatalException):
        return f"The query needs more than {memory} of memory; ask for less at once"
    text = re.sub(r"^\w[\w ]* Error: ", "", str(error).splitlines()[0])
    return _wrong_column(text, names, sql) or _wrong_alias(text, names, sql) or _without_paths(text)[:300]


WRONG_COLUMN = re.compile(
    r'(?:Referenced )?column "?([^"\s]+)"? (?:not found|that)|have a column named "?([^"\s]+?)"?(?:$|\s|!)'
)


def _wrong_column(text: str, names: Names, sql: str) -> str | None:
    missing = WRONG_COLUMN.search(text)
    if missing is None:
        return None
    name = str(missing.group(1) or missing.group(2)).split(".")[-1][:60]
    asked = {table: held for table, held in names.columns.items() if _mentions(sql, table)}
    # The tables of the query first: the nearest name elsewhere is rarely what was meant.
    for held in (asked, names.columns):
        columns = sorted({column for some in held.values() for column in some})
        near = difflib.get_close_matches(name.lower(), columns, n=1, cutoff=0.5)
        if near:
            where = ", ".join(sorted(table for table, some in held.items() if near[0] in some))
            hint = f"it is in {where}" if near[0] == name.lower() else f"did you mean {near[0]} (in {where})?"
            return f"No table of the query has a column {name!r}; {hint}"
    return f"No table of the query has a column {name!r}; see: describe TABLE"


def _wrong_alias(text: str, names: Names, sql: str) -> str | None:
    missing = re.search(r'Referenced table "([^"]+)" not found', text)
    if missing is None:
        return None
    name = missing.group(1)[:60]
    tables = [table for table in names.columns if _mentions(sql, table)]
    near = difflib.get_close_matches(name.lower(), sorted(tables), n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else "name it in FROM"
    return f"The query has no table or alias {name!r}; {hint}"


def _mentions(sql: str, table: str) -> bool:
    return re.search(rf"\b{re.escape(table)}\b", sql, re.IGNORECASE) is not None


def _without_paths(text: str) -> str:
    """A path in an error of DuckDB tells how the machine is laid out, and never how to ask better."""
    return re.sub(r"(?:~|\.{1,2}|\b[A-Za-z]:)?[/\\][\w.@~-]+(?:[/\\][\w.@~-]*)+", "(a file)", text)
