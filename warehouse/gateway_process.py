"""The process that answers one query: `python -m warehouse.gateway_process`, the request on standard input.

Here: a connection that can reach nothing but one tier's file, its limits, errors in words. Not here: who may ask, and
the audit (`warehouse.gateway`); which statements are answered (`warehouse.select_only`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
import sys
import threading
from typing import IO, Any

import duckdb
import pyarrow as pa

from warehouse.errors import QueryRefused
from warehouse.select_only import check

MEMORY = "1GB"
ADDRESS_SPACE = 6 << 30
"""Bytes. DuckDB's own limit does not cover list and string buffers: `len(range(2000000000))` took 21.7 GB."""
BATCH_ROWS = 10_000


def _explained(error: duckdb.Error, columns: dict[str, set[str]]) -> str:
    """A DuckDB error in one sentence, with the nearest column where a name is wrong."""
    if isinstance(error, duckdb.InterruptException):
        return "The query took too long and was stopped; ask for less at once"
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"The query needs more than {MEMORY} of memory; ask for less at once"
    text = str(error).splitlines()[0]
    text = re.sub(r"^\w[\w ]* Error: ", "", text)
    missing = re.search(
        r'column "?([^"\s]+)"? (?:not found|that)|have a column named "?([^"\s]+?)"?(?:$|\s|!)',
        text,
    )
    if missing is None:
        return text[:300]
    name = (missing.group(1) or missing.group(2)).split(".")[-1]
    everywhere = sorted({column for held in columns.values() for column in held})
    near = difflib.get_close_matches(name.lower(), everywhere, n=1, cutoff=0.5)
    if not near:
        return f"No table of the query has a column {name!r}; see: describe TABLE"
    where = ", ".join(sorted(table for table, held in columns.items() if near[0] in held))
    return f"No table of the query has a column {name!r}; did you mean {near[0]} (in {where})?"


def _connect(path: str) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(
        path,
        read_only=True,
        config={
            "memory_limit": MEMORY,
            "threads": "2",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "python_enable_replacements": "false",
        },
    )
    for setting in (
        "set TimeZone = 'UTC'",
        "set temp_directory = ''",
        "set enable_external_access = false",
        "set disabled_filesystems = 'LocalFileSystem'",
        "set lock_configuration = true",  # last: nothing can be set after it
    ):
        db.execute(setting)
    return db


def _head(out: IO[bytes], names: set[str], refusal: str | None) -> None:
    out.write(json.dumps({"names": sorted(names), "refusal": refusal}).encode() + b"\n")
    out.flush()


def serve(request: dict[str, Any], out: IO[bytes]) -> int:
    """Answer one request: a JSON line that says yes or why not, then an Arrow stream. Returns the exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    db = _connect(request["path"])
    columns: dict[str, set[str]] = {}
    for table, column in db.execute(
        "select table_name, column_name from information_schema.columns where table_schema = 'main'"
        " and table_catalog = current_database()"
    ).fetchall():
        columns.setdefault(table, set()).add(column)
    own = {row[0] for row in db.execute("select table_name from duckdb_tables() where not internal").fetchall()}
    columns = {table: held for table, held in columns.items() if table in own}
    catalogue = {row[0].lower() for row in db.execute("select view_name from duckdb_views()").fetchall()}
    names = set(columns) | {column for held in columns.values() for column in held}
    timer = threading.Timer(request["seconds"], db.interrupt)
    timer.daemon = True
    timer.start()
    try:
        row = db.execute("select json_serialize_sql(?::varchar)", [request["sql"]]).fetchone()
        check(json.loads(row[0]) if row else {"error": True}, set(columns), catalogue)
        reader = db.execute(request["sql"]).to_arrow_reader(BATCH_ROWS)
        first = next(iter(reader), None)
    except QueryRefused as error:
        _head(out, names, str(error))
        return 1
    except (duckdb.Error, pa.ArrowException, MemoryError, RecursionError) as error:
        _head(out, names, _sentence(error, columns))
        return 1
    _head(out, names, None)
    try:
        with pa.ipc.new_stream(out, reader.schema) as stream:
            if first is not None:
                stream.write_batch(first)
            for batch in reader:
                stream.write_batch(batch)
    except BrokenPipeError:  # the asker has seen enough
        return 0
    except (duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
        sys.stderr.write(_sentence(error, columns))
        return 1
    finally:
        timer.cancel()
    return 0


def _sentence(error: BaseException, columns: dict[str, set[str]]) -> str:
    if isinstance(error, duckdb.Error):
        return _explained(error, columns)
    if isinstance(error, RecursionError):
        return "The statement is nested too deeply"
    if "nterrupt" in str(error):
        return "The query took too long and was stopped; ask for less at once"
    return f"The query was stopped; it may use {MEMORY} of memory; ask for less at once"


def main() -> int:
    """Entry of the process: the request on standard input, the answer on standard output."""
    code = serve(json.load(sys.stdin), sys.stdout.buffer)
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    # No interpreter shutdown: DuckDB's threads of a stopped query must not delay the answer's end.
    status = main()
    sys.stderr.flush()
    os._exit(status)
