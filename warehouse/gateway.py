"""The one door to a release: a single SELECT on one tier's file, in a locked-down process of its own.

Here: choosing the file, starting the process, its time, the audit entry. Not here: what the process does
(`warehouse.gateway_process`), which statements are answered (`warehouse.select_only`), what a tier holds
(`warehouse.policy`); even a complete escape would see one tier's file only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa

from warehouse import audit, releases
from warehouse.errors import QueryRefused, RanvierError, ReleaseError
from warehouse.gateway_process import MEMORY
from warehouse.home import SITE_CODE, Home
from warehouse.statement import refuse_by_size

Tier = Literal["open", "registered", "steward", "site", "controlled"]
SECONDS = 60.0


class Answer:
    """Rows of a query, as they come.

    Read it once: `batches()` streams, `table()` and `rows` gather everything. Use it as a context manager, or read it
    to its end, so that its process goes away.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: Any, seconds: float, question: audit.Question) -> None:
        self._process = process
        self._question = question
        self._given = 0
        self._reader = reader
        self._seconds = seconds
        self._table: pa.Table | None = None
        self.columns: list[str] = list(reader.schema.names)
        self.schema: pa.Schema = reader.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Arrow record batches.

        Raises
        ------
        QueryRefused
            The query ran out of time or memory, or failed on a value, part of the way.
        """
        try:
            for batch in self._reader:
                self._given += batch.num_rows
                yield batch
            # The process ends by itself; how it ended says whether that was all.
            if self._wait():
                raise self._failure()
            self._question.end("answered", self._given)
        except (pa.ArrowInvalid, OSError):
            raise self._failure() from None
        finally:
            self.close()

    def _failure(self) -> QueryRefused:
        stderr = self._process.stderr
        text = stderr.read().decode(errors="replace").strip() if stderr and not stderr.closed else ""
        self._question.end("refused", self._given)
        return QueryRefused(text or f"The query was stopped; it may take {self._seconds:g} s and {MEMORY} of memory")

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

    def close(self) -> None:
        """End the process, whether or not all rows were read."""
        if self._process.stdout:
            self._process.stdout.close()
        self._wait()
        self._question.end("abandoned", self._given)

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
        The tier does not exist, or needs a site.
    ReleaseError
        There is no such release.
    """
    if tier == "controlled" or project is not None:
        raise QueryRefused("This release has no project files; ask the registered tier, or the data manager")
    if tier not in ("open", "registered", "steward", "site"):
        raise QueryRefused(f"There is no tier {tier[:20]!r}; there are open, registered, steward and site")
    if (tier == "site") != (site is not None):
        raise QueryRefused(
            "The tier site needs a site's code, and no other tier takes one; use: --tier site --site CODE"
        )
    folder = releases.release_folder(home, release)
    if site is None:
        return folder / f"{tier}.duckdb"
    path = folder / "site" / f"{site}.duckdb"
    if not SITE_CODE.match(site) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in (folder / "site").glob("*.duckdb"))) or "none"
        raise QueryRefused(f"This release has no file for that site; it has: {known}")
    return path


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
) -> Answer:
    """Answer one SELECT on one tier.

    Parameters
    ----------
    sql
        One SELECT over the tables of that tier.
    user
        Who asks, for the audit log.
    seconds
        How long it may take.

    Raises
    ------
    QueryRefused
        The statement asks for something its tier does not allow, names a column or table that does not exist, or takes
        too long; the text says what to do. It is in the audit log like any other.
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
    process = None
    try:
        path = tier_file(home, tier, site=site, project=project, release=release)
        # The version that is answered from, should `current` move on meanwhile.
        entry["release"] = path.parent.name if path.parent.parent == home.releases else path.parent.parent.name
        process = _start(path, sql, seconds)
        names = frozenset(_read_line(process, seconds)["names"])
        question = audit.ask(home, entry, sql, names)
        head = _read_line(process, seconds)
        if head["refusal"]:
            raise QueryRefused(head["refusal"])
        return Answer(process, pa.ipc.open_stream(process.stdout), seconds, question)
    except (QueryRefused, ReleaseError, pa.ArrowInvalid) as error:
        _end(process)
        question = question or audit.ask(home, entry, sql, frozenset())
        question.end("no release" if isinstance(error, ReleaseError) else "refused")
        if isinstance(error, pa.ArrowInvalid):
            raise QueryRefused(f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory") from None
        raise
    except RanvierError:  # the log cannot be written, so nothing is answered
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _start(path: Path, sql: str, seconds: float) -> subprocess.Popen[bytes]:
    refuse_by_size(sql)
    root = str(Path(__file__).parent.parent)
    # Nothing of our environment is handed on: it may hold the secret behind the pseudonyms.
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": root,
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "warehouse.gateway_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=path.parent,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"path": str(path.resolve()), "sql": sql, "seconds": seconds}).encode())
        process.stdin.close()
    except BrokenPipeError:  # it is dead already; reading its first line says so
        pass
    return process


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    assert process.stdout is not None
    # The process interrupts itself in time; this is for one that no longer listens.
    timer = threading.Timer(seconds + 15, process.kill)
    timer.daemon = True
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    try:
        head: dict[str, Any] = json.loads(line)
    except ValueError:
        process.kill()
        raise QueryRefused(
            f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory; ask for less at once"
        ) from None
    return head
