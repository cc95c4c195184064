"""The process that answers the queries on one tier's file, one at a time.

Here: a connection that can reach nothing but that file, its time, and the frames in which answers leave. Not here: who
may ask, and the audit (`warehouse.gateway`); what the process may use of the machine (`warehouse.confinement`); which
statements are answered and what is said of the others (`warehouse.statement`); starting and ending this process
(`warehouse.workers`).

Requests come on standard input, one JSON line each: `{"sql", "seconds", "limit", "most_rows"}`, or `{"stop": true}` for
the query that runs. Answers go to standard output in frames: one byte for the kind, four for the length, the content.

| kind | content |
|---|---|
| `h` | once, at the start: JSON with the tables and the names in them, or why the file cannot be opened |
| `r` | JSON: the query is refused, and why; ends the answer |
| `w` | the whole answer as an Arrow stream, when it is short |
| `a` | a piece of an Arrow stream |
| `e` | JSON: how many rows, and the error that ended them if one did; ends the answer |
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa

from warehouse.confinement import allow_processor
from warehouse.errors import QueryRefused
from warehouse.statement import Names, bounded, run, sentence

MEMORY = "1GB"
TICK = 0.05
"""Seconds between looks at the clock while a query runs."""


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
        "set global TimeZone = 'UTC'",  # for every cursor, whatever the machine's own zone
        "set temp_directory = ''",
        "set enable_external_access = false",
        "set disabled_filesystems = 'LocalFileSystem'",
        "set lock_configuration = true",  # last: nothing can be set after it
    ):
        db.execute(setting)
    return db


def unique(names: list[str]) -> list[str]:
    """Column names, each once: a second `a` becomes `a_1`, as DuckDB itself has it in its tables."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 0
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        result.append(candidate)
    return result


def send(out: IO[bytes], kind: bytes, content: bytes | dict[str, Any]) -> None:
    """Send one frame. Raises BrokenPipeError when nobody listens any more."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    out.write(kind + struct.pack(">I", len(data)))
    out.write(data)
    out.flush()


class Server:
    """Answers queries on one file, one after the other; two threads may call it: one asks, one stops."""

    def __init__(self, path: str, out: IO[bytes]) -> None:
        self._out = out
        self._db = _connect(path)
        self.columns: dict[str, list[tuple[str, str]]] = {}
        for table, column, kind in self._db.execute(
            "select table_name, column_name, data_type from duckdb_columns() where not internal"
            " and database_name = current_database() and schema_name = 'main' and table_name in"
            " (select table_name from duckdb_tables() where not internal) order by table_name, column_index"
        ).fetchall():
            self.columns.setdefault(table, []).append((column, kind))
        self._names = Names.read(self._db)
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._running = threading.Event()
        self._stopped = False
        self._left = 0.0
        self._since: float | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop the query that runs, if one does."""
        self._stopped = True

    def _watch(self) -> None:
        # Looks again and again: an interrupt that comes before DuckDB begins is lost. The asker's own slowness in
        # reading is not counted.
        while True:
            self._running.wait()
            time.sleep(TICK)
            since, cursor = self._since, self._cursor
            if cursor is None or since is None:
                continue
            if self._stopped or time.monotonic() - since > self._left:
                with contextlib.suppress(duckdb.Error):
                    cursor.interrupt()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the time of the block against the query's limit."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._left -= time.monotonic() - self._since
            self._since = None
        if self._stopped or self._left < 0:
            raise QueryRefused("The query took too long and was stopped; ask for less at once")

    def answer(self, sql: str, seconds: float, limit: int | None = None, most_rows: int | None = None) -> bool:
        """Answer one query in frames.

        Parameters
        ----------
        limit
            No more rows are given than this; the others are left out silently, as by SQL's own limit.
        most_rows
            An answer of more rows ends with an error.

        Returns
        -------
        False when memory ran out and the process should not go on.
        """
        allow_processor(seconds)
        self._left, self._stopped = seconds, False
        cursor = self._cursor = self._db.cursor()
        self._running.set()
        rows, is_well, has_begun = 0, True, False
        error: str | None = None
        try:
            with self._counted():
                reader = run(cursor, sql, self._names)
                schema = pa.schema(
                    [field.with_name(n) for field, n in zip(reader.schema, unique(reader.schema.names), strict=True)]
                )
                batches = bounded(iter(reader))
                batch = next(batches, None)
            stream = _Stream(schema)
            while batch is not None:
                batch = batch.slice(0, None if limit is None else limit - rows)
                rows += batch.num_rows
                if most_rows is not None and rows > most_rows:
                    raise QueryRefused(f"The answer has more than {most_rows} rows; ask for less at once")
                stream.write(batch)
                if limit is not None and rows >= limit:
                    break
                with self._counted():
                    batch = next(batches, None)
                if batch is not None:
                    has_begun = True
                    send(self._out, b"a", stream.taken())
            stream.close()
            send(self._out, b"a" if has_begun else b"w", stream.taken())
        except BrokenPipeError:
            raise
        except (QueryRefused, duckdb.Error, pa.ArrowException, MemoryError, RecursionError, OSError) as failed:
            error = sentence(failed, self._names, sql, MEMORY)
            is_well = isinstance(failed, QueryRefused) or "memory" not in error
        finally:
            self._running.clear()
            self._cursor = None
            cursor.close()
        if error is not None and not has_begun:
            send(self._out, b"r", {"refusal": error, "last": not is_well})
        else:
            send(self._out, b"e", {"rows": rows, "error": error, "last": not is_well})
        return is_well


class _Stream:
    """Writes an Arrow stream piece by piece."""

    def __init__(self, schema: pa.Schema) -> None:
        self._pieces: list[bytes] = []
        self._schema = schema
        self._writer = pa.ipc.new_stream(pa.PythonFile(self, mode="w"), schema)

    closed = False

    def write(self, data: Any) -> int:
        if isinstance(data, pa.RecordBatch):
            self._writer.write_batch(data.rename_columns(self._schema.names))
            return 0
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None:
        self._writer.close()

    def taken(self) -> bytes:
        """What was written since the last call."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content


def _prefer_to_be_killed() -> None:
    # Should memory run out all the same, the kernel ends a worker and not what started it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _listen(server: Server, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request.get("stop"):
            server.stop()
        else:
            requests.put(request)
    # Whoever started this is gone. Without an orderly end: a query may be running.
    os._exit(0)


def main() -> None:
    """Entry of the confined process, the file as its argument. Never returns; it ends when its standard input does."""
    out = sys.stdout.buffer
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with contextlib.suppress(BrokenPipeError):
        try:
            server = Server(sys.argv[1], out)
        except (duckdb.Error, MemoryError):
            send(out, b"h", {"refusal": "This release's file cannot be opened; tell the data manager"})
            os._exit(1)
        send(out, b"h", {"tables": server.columns})
        threading.Thread(target=_listen, args=(server, requests), daemon=True).start()
        while server.answer(**requests.get()):
            pass
    # No interpreter shutdown: DuckDB's threads of a stopped query must not delay the end.
    os._exit(1)
