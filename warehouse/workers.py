"""Processes that answer queries: one tier's file each, one query at a time, replaced when they die.

Here: starting, asking, stopping and ending them, and a pool for a server. Not here: what such a process does
(`warehouse.gateway_process`), who may ask and the audit (`warehouse.gateway`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warehouse.errors import QueryBusy, QueryRefused
from warehouse.gateway_process import MEMORY

START = "from warehouse.confinement import confine; confine(); from warehouse.gateway_process import main; main()"
"""Confined before anything heavy is imported: threads of a library would keep a user from leaving the network."""
START_SECONDS = 60.0
"""How long a process may take to open its file."""
GRACE_SECONDS = 15.0
"""Beyond its time limit a process is killed: it interrupts itself, so it no longer listens."""
STOP_SECONDS = 2.0
"""A stopped query has this long to end before its process is killed."""

Identity = tuple[str, int, int]
"""Path, inode and time of change of a file: a re-issued release of the same version is another file."""


class WorkerGone(Exception):
    """The process ended while it was listened to."""


def identity(path: Path) -> Identity:
    """What a file is now. Raises QueryRefused when it is gone."""
    try:
        found = path.stat()
    except OSError:
        raise QueryRefused("This release has no file for that tier any more; ask without a release") from None
    return str(path), found.st_ino, found.st_mtime_ns


class Worker:
    """One process on one file.

    Raises
    ------
    QueryRefused
        The file cannot be opened, or the process died at its start.
    """

    def __init__(self, path: Path) -> None:
        self.identity = identity(path)
        self.idle_since = time.monotonic()
        self.tables: dict[str, list[tuple[str, str]]] = {}
        self.names: frozenset[str] = frozenset()
        self._buffer = bytearray()
        # Nothing of our environment is handed on: it may hold the secret behind the pseudonyms.
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", START, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in = self.process.stdin.fileno()
        self._out = self.process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        try:
            hello = json.loads(self.frame(START_SECONDS)[1])
        except WorkerGone:
            self.end()
            raise QueryRefused("The query could not be started; try again") from None
        if "refusal" in hello:
            self.end()
            raise QueryRefused(hello["refusal"])
        self.tables = {table: [(name, kind) for name, kind in held] for table, held in hello["tables"].items()}
        known = {name for held in self.tables.values() for name, _ in held} | set(self.tables)
        self.names = frozenset(name.lower() for name in known)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, sql: str, seconds: float, limit: int | None = None, most_rows: int | None = None) -> None:
        """Hand over a query; its frames follow. Raises WorkerGone when the process has ended."""
        self._send({"sql": sql, "seconds": seconds, "limit": limit, "most_rows": most_rows})

    def stop(self) -> None:
        """Ask the process to stop its query; its last frame follows soon."""
        with contextlib.suppress(WorkerGone):
            self._send({"stop": True})

    def _send(self, request: dict[str, Any]) -> None:
        data = memoryview(json.dumps(request).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._in, data) :]
        except OSError:
            raise WorkerGone from None

    def frame(self, seconds: float) -> tuple[bytes, bytes]:
        """Kind and content of the next frame.

        Raises WorkerGone when the process ends, or is killed here because nothing came for so many seconds.
        """
        end = time.monotonic() + seconds
        self._fill(5, end)
        kind, (length,) = bytes(self._buffer[:1]), struct.unpack(">I", self._buffer[1:5])
        self._fill(5 + length, end)
        content = bytes(memoryview(self._buffer)[5 : 5 + length])
        del self._buffer[: 5 + length]
        return kind, content

    def _fill(self, size: int, end: float) -> None:
        while len(self._buffer) < size:
            if not self._poll.poll(max(0.0, (end - time.monotonic()) * 1000)):
                self.process.kill()
                raise WorkerGone
            data = os.read(self._out, 1 << 20)
            if not data:
                raise WorkerGone
            self._buffer += data

    def end(self) -> None:
        """End the process, whatever it is doing."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self.process.kill()
        self.process.wait()


class Stop:
    """Stops a query from another thread, whether it waits, runs or is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None
        self.is_set = False

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            if self._act:
                self._act()

    def acts_on(self, act: Callable[[], None] | None) -> None:
        """What `set` does from now on; done at once when it was set before."""
        with self._lock:
            self._act = act
            if self.is_set and act:
                act()


@dataclass
class _Waiter:
    """A query that waits for its turn: it gets a worker, or leave to start one."""

    turn: threading.Event = field(default_factory=threading.Event)
    worker: Worker | None = None
    may_start: bool = False


class Pool:
    """The workers of a server: some for each file, started when asked for and ended when idle.

    Parameters
    ----------
    per_file
        Queries that run at once on one tier's file.
    total
        Processes at once; an idle one of another file makes room.
    wait_seconds
        How long a query waits for its turn.
    idle_seconds
        How long a process without work is kept.
    """

    def __init__(
        self, *, per_file: int = 3, total: int = 12, wait_seconds: float = 30.0, idle_seconds: float = 300.0
    ) -> None:
        self._per_file, self._total = per_file, total
        self._wait_seconds, self._idle_seconds = wait_seconds, idle_seconds
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._count: dict[Identity, int] = {}
        self._waiting: dict[Identity, deque[_Waiter]] = {}
        self._starting: set[Identity] = set()
        self._is_closed = False

    def take(self, path: Path, stop: Stop | None = None) -> Worker:
        """A worker on this file, for one query. Give it back.

        Raises
        ------
        QueryBusy
            None came free in time.
        QueryRefused
            The file cannot be opened, or the query was stopped while it waited.
        """
        which = identity(path)
        with self._lock:
            if self._is_closed:
                raise QueryBusy("The gateway is shutting down; try again in a minute", retry_seconds=60)
            waiter = _Waiter()
            self._waiting.setdefault(which, deque()).append(waiter)
            self._serve_waiting()
        if stop:
            stop.acts_on(waiter.turn.set)
        waiter.turn.wait(self._wait_seconds)
        if stop:
            stop.acts_on(None)
        with self._lock:
            if waiter.worker is None and not waiter.may_start:
                self._waiting[which].remove(waiter)
                if stop and stop.is_set:
                    raise QueryRefused("The query was stopped by whoever asked it")
                raise QueryBusy("Too many queries wait for this tier; try again in a few seconds", retry_seconds=5)
        if waiter.worker is not None:
            return waiter.worker
        try:
            worker = Worker(path)
        except BaseException:
            self._has_started(which)
            self._forget(which)
            raise
        self._has_started(which)
        return worker

    def _has_started(self, which: Identity) -> None:
        with self._lock:
            self._starting.discard(which)
            self._serve_waiting()

    def give_back(self, worker: Worker, *, is_well: bool = True) -> None:
        """Return a worker; one that is not well, dead, or on a file that was replaced, is ended."""
        try:
            is_current = identity(Path(worker.identity[0])) == worker.identity
        except QueryRefused:
            is_current = False
        if is_well and is_current and not self._is_closed and worker.is_alive:
            worker.idle_since = time.monotonic()
            with self._lock:
                self._idle.append(worker)
                self._serve_waiting()
        else:
            worker.end()
            self._forget(worker.identity)

    def tidy(self, is_current: Callable[[Path], bool]) -> None:
        """End idle workers: the dead, those idle for long, and those of releases that are no longer current."""
        now = time.monotonic()
        with self._lock:
            kept: list[Worker] = []
            over: list[Worker] = []
            for worker in self._idle:
                path = Path(worker.identity[0])
                idle = now - worker.idle_since
                is_over = not worker.is_alive or idle > self._idle_seconds or (idle > 1 and not is_current(path))
                (over if is_over else kept).append(worker)
            self._idle = kept
        for worker in over:
            worker.end()
            self._forget(worker.identity)

    def close(self) -> None:
        """End every idle worker, and the others as they are given back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def processes(self) -> int:
        """How many processes there are."""
        with self._lock:
            return sum(self._count.values())

    def _forget(self, which: Identity) -> None:
        with self._lock:
            self._count[which] -= 1
            if not self._count[which]:
                del self._count[which]
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Hand out workers and leave to start some, first come first served within a file. Holds the lock."""
        for which, waiting in list(self._waiting.items()):
            while waiting and self._serve(waiting[0], which):
                waiting.popleft()
            if not waiting:
                del self._waiting[which]

    def _serve(self, waiter: _Waiter, which: Identity) -> bool:
        for worker in reversed(self._idle):
            if worker.identity == which and worker.is_alive:
                self._idle.remove(worker)
                waiter.worker = worker
                waiter.turn.set()
                return True
        # One start at a time for a file: starting costs a second of processor, which those at work need as well.
        if which in self._starting or self._count.get(which, 0) >= self._per_file + self._dead(which):
            return False
        if sum(self._count.values()) >= self._total and not self._make_room():
            return False
        self._count[which] = self._count.get(which, 0) + 1
        self._starting.add(which)
        waiter.may_start = True
        waiter.turn.set()
        return True

    def _dead(self, which: Identity) -> int:
        return sum(worker.identity == which and not worker.is_alive for worker in self._idle)

    def _make_room(self) -> bool:
        """End the worker that has been idle longest. Holds the lock."""
        if not self._idle:
            return False
        worker = self._idle.pop(0)
        self._count[worker.identity] -= 1
        if not self._count[worker.identity]:
            del self._count[worker.identity]
        worker.end()
        return True


def killed_sentence(seconds: float) -> str:
    """What the asker of a query is told when its process died."""
    return f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory; ask for less at once"
