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

Tier = Literal["open", "registered", "steward", "site", "controlled"]
SECONDS = 60.0
LONGEST = 100_000
"""Characters of a statement."""


class Answer:
    """Rows of a query, as they come.

    Read it once: `batches()` streams, `table()` and `rows` gather everything. Use it as a context manager, or read it
    to its end, so that its process goes away.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: Any, seconds: float) -> None:
        self._process = process
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
            yield from self._reader
        except (pa.ArrowInvalid, OSError):
            raise self._failure() from None
        finally:
            self.close()
        if self._process.returncode:
            raise self._failure()

    def _failure(self) -> QueryRefused:
        stderr = self._process.stderr
        text = stderr.read().decode(errors="replace").strip() if stderr and not stderr.closed else ""
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
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

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
    known: frozenset[str] = frozenset()
    process = None
    try:
        path = tier_file(home, tier, site=site, project=project, release=release)
        # The version that is answered from, should `current` move on meanwhile.
        entry["release"] = path.parent.name if site is None else path.parent.parent.name
        process = _start(path, sql, seconds)
        head = _read_head(process, seconds)
        known = frozenset(head["names"])
        if head["refusal"]:
            raise QueryRefused(head["refusal"])
        answer = Answer(process, pa.ipc.open_stream(process.stdout), seconds)
    except (QueryRefused, ReleaseError) as error:
        _end(process)
        outcome = "refused" if isinstance(error, QueryRefused) else "no release"
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": outcome})
        raise
    except pa.ArrowInvalid:
        _end(process)
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": "refused"})
        raise QueryRefused(f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory") from None
    try:
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": "answered"})
    except RanvierError:
        _end(process)
        raise
    return answer


def _logged(sql: str, known: frozenset[str]) -> str:
    return audit.without_literals(sql[:LONGEST], known)[:8000]


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _start(path: Path, sql: str, seconds: float) -> subprocess.Popen[bytes]:
    if len(sql) > LONGEST:
        raise QueryRefused(f"The statement is longer than {LONGEST} characters")
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


def _read_head(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
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
