"""The one door to a release: a single SELECT on one tier's file, in a locked-down process of its own.

Here: choosing the file, asking a process, the audit entries, the rows as they come. Not here: the processes
(`warehouse.workers`), what they do (`warehouse.gateway_process`), which statements are answered
(`warehouse.select_only`), what a tier holds (`warehouse.policy`). A complete escape would see one tier's file only.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa

from warehouse import audit, releases
from warehouse.errors import QueryBusy, QueryRefused, RanvierError, ReleaseError
from warehouse.home import SITE_CODE, Home
from warehouse.statement import refuse_by_size
from warehouse.workers import GRACE_SECONDS, STOP_SECONDS, Pool, Stop, Worker, WorkerGone, killed_sentence

Tier = Literal["open", "registered", "steward", "site", "controlled"]
SECONDS = 60.0


class Answer:
    """Rows of a query, as they come.

    Read it once: `stream()` gives the bytes of an Arrow stream, `batches()` its batches, `table()` and `rows` gather
    everything. Use it as a context manager, or read it to its end, so that its process is free again.
    """

    def __init__(
        self,
        worker: Worker,
        first: tuple[bytes, bytes],
        seconds: float,
        done: Callable[[audit.End, int, bool], None],
    ) -> None:
        self._worker = worker
        self._seconds = seconds
        self._done = done
        self._is_open = True
        self._first = first
        self.release = ""
        """Version that is answered from."""
        self.schema: pa.Schema = pa.ipc.open_stream(first[1]).schema
        self.columns: list[str] = list(self.schema.names)
        self._table: pa.Table | None = None
        self._end: tuple[bytes, bytes] | None = None
        self._lock = threading.Lock()
        if first[0] == b"w":  # everything is here: another query may have the process
            with contextlib.suppress(WorkerGone):
                self._end = worker.frame(seconds + GRACE_SECONDS)
                self._finish_by(self._end[1])

    def stream(self) -> Iterator[bytes]:
        """The answer as an Arrow stream, piece by piece.

        Raises
        ------
        QueryRefused
            The query ran out of time or memory, or failed on a value, part of the way.
        """
        kind, content = self._first
        try:
            while True:
                if kind == b"e":
                    self._finish_by(content)
                    if error := json.loads(content)["error"]:
                        raise QueryRefused(error)
                    return
                yield content
                with self._lock:
                    if not self._is_open and self._end is None:
                        raise QueryRefused("The query was stopped, as its rows were not read")
                    kind, content = self._end or self._worker.frame(self._seconds + GRACE_SECONDS)
        except WorkerGone:
            self._finish("refused", 0, False)
            raise QueryRefused(killed_sentence(self._seconds)) from None
        finally:
            self.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Arrow record batches. Raises what `stream` raises."""
        pieces = self.stream()
        try:
            yield from pa.ipc.open_stream(pa.PythonFile(_Reader(pieces), mode="r"))
            for _ in pieces:  # what comes after the last batch: the end, or the error
                pass
        finally:
            self.close()

    def table(self) -> pa.Table:
        """All rows as one Arrow table."""
        if self._table is None:
            self._table = pa.Table.from_batches(list(self.batches()), schema=self.schema)
        return self._table

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        table = self.table()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_columns else []

    def _finish_by(self, content: bytes, outcome: audit.End = "answered") -> None:
        end = json.loads(content)
        self._finish("refused" if end["error"] else outcome, end["rows"], not end["last"])

    def _finish(self, outcome: audit.End, rows: int, is_well: bool) -> None:
        if self._is_open:
            self._is_open = False
            self._done(outcome, rows, is_well)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is expected of the process: all rows are here, or it was let go of."""
        return not self._is_open

    def close(self) -> None:
        """Let go of the process, whether or not all rows were read; a query that still runs is stopped."""
        with self._lock:
            if self._is_open:
                self._abandon()

    def _abandon(self) -> None:
        self._worker.stop()
        end = time.monotonic() + STOP_SECONDS
        try:
            while (frame := self._worker.frame(max(0.0, end - time.monotonic())))[0] != b"e":
                pass
            last = json.loads(frame[1])
            self._finish("abandoned", last["rows"], not last["last"])
        except WorkerGone:
            self._finish("abandoned", 0, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Reader(io.RawIOBase):
    """Pieces of bytes as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def read(self, size: int = -1) -> bytes:
        """As many bytes as asked for, unless the end comes first: Arrow takes a short read for the end."""
        taken = bytearray()
        while size < 0 or len(taken) < size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest[: None if size < 0 else size - len(taken)]
            taken += part
            self._rest = self._rest[len(part) :]
        return bytes(taken)


def tier_file(
    home: Home,
    tier: str,
    *,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
) -> Path:
    """File of a tier in a release, the current one by default.

    Raises
    ------
    QueryRefused
        The tier does not exist, or needs a site or a project.
    ReleaseError
        There is no such release.
    """
    if tier not in ("open", "registered", "controlled", "steward", "site"):
        raise QueryRefused(f"There is no tier {tier[:20]!r}; there are open, registered, controlled, steward and site")
    if (tier == "site") != (site is not None):
        raise QueryRefused(
            "The tier site needs a site's code, and no other tier takes one; use: --tier site --site CODE"
        )
    if (tier == "controlled") != (project is not None):
        raise QueryRefused(
            "The tier controlled needs a project, and no other tier takes one; use: --tier controlled --project NAME"
        )
    folder = releases.release_folder(home, release)
    if site is not None:
        return _part(folder / "site", site, bool(SITE_CODE.fullmatch(site)), "site")
    if project is not None:
        from warehouse.projects import is_answered  # brings in what a question to another tier does not need

        return _part(folder / "controlled", project, is_answered(home, project), "project")
    return folder / f"{tier}.duckdb"


def _part(folder: Path, name: str, is_name: bool, what: str) -> Path:
    path = folder / f"{name}.duckdb"
    if not is_name or not path.is_file():
        # Which others there are is not told: a project's name may say what is studied.
        raise QueryRefused(f"This release has no file for that {what}; check its name, or ask the data manager")
    return path


def tables(
    home: Home,
    pool: Pool,
    *,
    tier: str,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """Version of the release, and the columns and types of each of the tier's tables.

    Raises
    ------
    QueryRefused, QueryBusy, ReleaseError
        As `query`.
    """
    path = tier_file(home, tier, site=site, project=project, release=release)
    worker = pool.take(path)
    pool.give_back(worker)
    return path.relative_to(home.releases).parts[0], worker.tables


def query(
    home: Home,
    sql: str,
    *,
    tier: str,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
    user: str,
    seconds: float = SECONDS,
    limit: int | None = None,
    most_rows: int | None = None,
    pool: Pool | None = None,
    stop: Stop | None = None,
) -> Answer:
    """Answer one SELECT on one tier.

    Parameters
    ----------
    sql
        One SELECT over the tables of that tier.
    user
        Who asks, for the audit log.
    seconds
        How long it may take; what the asker takes to read the rows is not counted.
    limit
        No more rows than this are given; the others are left out.
    most_rows
        An answer of more rows ends with an error.
    pool
        Where to take a process from; without one it is started for this query and ended after it.
    stop
        Stops the query from another thread.

    Raises
    ------
    QueryRefused
        The statement asks for something its tier does not allow, names a column or table that does not exist, or takes
        too long; the text says what to do. It is in the audit log like any other.
    QueryBusy
        The pool has no process free.
    ReleaseError
        There is no such release.
    """
    entry: dict[str, Any] = {
        "user": user,
        "tier": tier,
        "site": site,
        "project": project,
        "release": release,
    }
    question: audit.Question | None = None
    worker: Worker | None = None

    def let_go(is_well: bool) -> None:
        if stop:
            stop.acts_on(None)
        if worker and pool:
            pool.give_back(worker, is_well=is_well)
        elif worker:
            worker.end()

    try:
        refuse_by_size(sql)
        path = tier_file(home, tier, site=site, project=project, release=release)
        # The version that is answered from, should `current` move on meanwhile.
        entry["release"] = path.relative_to(home.releases).parts[0]
        worker = pool.take(path, stop) if pool else Worker(path)
        question = audit.ask(home, entry, sql, worker.names)
        worker.ask(sql, seconds, limit, most_rows)
        if stop:
            stop.acts_on(worker.stop)
        first = worker.frame(seconds + GRACE_SECONDS)
        if first[0] == b"r":
            refusal = json.loads(first[1])
            let_go(not refusal["last"])
            worker = None
            raise QueryRefused(refusal["refusal"])
    except WorkerGone:
        let_go(False)
        assert question is not None
        question.end("refused")
        raise QueryRefused(killed_sentence(seconds)) from None
    except (QueryRefused, ReleaseError, QueryBusy) as error:
        question = question or audit.ask(home, entry, sql, frozenset())
        question.end("no release" if isinstance(error, ReleaseError) else "refused")
        raise
    except RanvierError:  # the log cannot be written, so nothing is answered
        let_go(False)
        raise

    def done(asked: audit.Question, outcome: audit.End, rows: int, is_well: bool) -> None:
        let_go(is_well)
        asked.end(outcome, rows)

    answer = Answer(worker, first, seconds, partial(done, question))
    answer.release = entry["release"]
    return answer
