"""The process that answers one query: `python -m warehouse.gateway_process`, the request on standard input.

Here: a connection that can reach nothing but one tier's file, and its time. Not here: who may ask, and the audit
(`warehouse.gateway`); what the process may use of the machine (`warehouse.confinement`); which statements are answered
and what is said of the others (`warehouse.statement`).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from typing import IO, Any

import duckdb
import pyarrow as pa

from warehouse.confinement import allow_processor, confine
from warehouse.errors import QueryRefused
from warehouse.statement import Names, bounded, run, sentence

MEMORY = "1GB"


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


def _line(out: IO[bytes], value: dict[str, Any]) -> None:
    out.write(json.dumps(value).encode() + b"\n")
    out.flush()


def serve(request: dict[str, Any], out: IO[bytes]) -> int:
    """Answer one request: a JSON line of names of tables and columns, one that says yes or why not, an Arrow stream.

    Returns the exit code.
    """
    confine()
    allow_processor(request["seconds"])
    db = _connect(request["path"])
    names = Names.read(db)
    _line(out, {"names": sorted(names.known)})
    timer = threading.Timer(request["seconds"], db.interrupt)
    timer.daemon = True
    timer.start()
    try:
        reader = run(db, request["sql"], names)
        first = next(iter(reader), None)
    except (QueryRefused, duckdb.Error, pa.ArrowException, MemoryError, RecursionError, OSError) as error:
        _line(out, {"refusal": sentence(error, names, request["sql"], MEMORY)})
        return 1
    _line(out, {"refusal": None})
    batches = bounded(itertools.chain([] if first is None else [first], reader))
    try:
        with pa.ipc.new_stream(out, reader.schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
    except BrokenPipeError:  # the asker has seen enough
        return 0
    except (QueryRefused, duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
        sys.stderr.write(sentence(error, names, request["sql"], MEMORY))
        return 1
    finally:
        timer.cancel()
    return 0


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
