"""A hash-chained, append-only log in a folder: how a record is written, recovered after a crash, and verified.

Here: files, hashes, the anchor. Not here: what the records say (`warehouse.audit`).

The log is `queries-000001.jsonl` and the files that follow it, one record a line; each record carries the hash of the
one before, across files. `head.json` is the anchor: number and hash of the newest record, so that a cut end is noticed.
It is also the lock of the writers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warehouse.errors import RanvierError

FIRST = "0" * 64
SEGMENT_BYTES = 64 << 20
"""A file that has grown to this many bytes is closed, and the chain goes on in the next: about 100,000 questions."""
TORN = b"#torn\n"
"""Closes a line that a crash cut short. More than a line feed: the cut may have come just before that."""
HEAD_BYTES = 256
"""The anchor is rewritten in place: one page, so that no crash of a process leaves half of it."""


@dataclass
class Verdict:
    """What `verify` found.

    `problems` break the chain. `notes` do not: a write that a crash interrupted, which is recorded in the chain.
    """

    records: int = 0
    anchor: str | None = None
    """`NUMBER:HASH` of the newest record. Keep it elsewhere: whoever can rewrite the log and its anchor cannot
    rewrite that."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.problems


def _segment(folder: Path, number: int) -> Path:
    return folder / f"queries-{number:06d}.jsonl"


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("queries-*.jsonl"))


def _number_of(path: Path) -> int:
    return int(path.stem.removeprefix("queries-"))


def _next_segment(folder: Path) -> int:
    paths = _segments(folder)
    return _number_of(paths[-1]) + 1 if paths else 1


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends; only a line feed ends one."""
    with path.open("rb") as handle:
        yield from handle


def _digest(record: dict[str, Any]) -> str:
    body = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _line(record: dict[str, Any]) -> bytes:
    """The one way a record is written; verifying compares bytes, so that no other way of writing it passes."""
    return (json.dumps(record, sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class _Head:
    number: int = 0
    hash: str = FIRST
    segment: int = 1
    size: int = 0

    def text(self) -> bytes:
        record = {"bytes": self.size, "hash": self.hash, "number": self.number, "segment": self.segment}
        return json.dumps(record).ljust(HEAD_BYTES - 1).encode() + b"\n"

    @classmethod
    def read(cls, text: bytes) -> _Head | None:
        """The anchor that `text` is; None when it is none, or not written by us to the byte."""
        try:
            raw = json.loads(text)
            head = cls(raw["number"], raw["hash"], raw["segment"], raw["bytes"])
        except (ValueError, KeyError, TypeError):
            return None
        return head if head.text() == text else None


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The anchor's file handle, while nobody else writes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "head.json", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RanvierError(
            "The audit log cannot be written, so no query is answered; check the audit folder"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def append(folder: Path, entry: dict[str, Any], *, is_durable: bool = True) -> None:
    """Add one record to the chain; on disk when this returns, if it is durable.

    A record that is not is in the file at once, where everybody reads it, and safe from a power cut with the next one
    that is. Until then the anchor does not know it.

    What a crash left half-written is closed first, and recorded. A log that was cut or changed is not mended: the new
    record follows from the anchor, so the gap stays visible for ever.

    Raises
    ------
    RanvierError
        The log cannot be written; nothing may be answered then.
    """
    with _locked(folder) as anchor:
        try:
            head = _recovered(folder, os.pread(anchor, HEAD_BYTES * 2, 0), anchor)
            _write(folder, anchor, head, entry, is_durable=is_durable)
        except OSError as error:
            raise RanvierError(
                "The audit log cannot be written, so no query is answered; check the disk of the audit folder"
            ) from error


def _write(
    folder: Path, anchor: int, head: _Head, entry: dict[str, Any], before: bytes = b"", *, is_durable: bool = True
) -> _Head:
    segment = head.segment
    if head.size >= SEGMENT_BYTES and not before and is_durable:
        _fsync(_segment(folder, segment))  # what is not durable yet must not be lost behind what is
        segment += 1
    record = {
        "number": head.number + 1,
        "written_datetime": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **entry,
        "previous": head.hash,
    }
    record["hash"] = _digest(record)
    line = before + _line(record)
    path = _segment(folder, segment)
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(handle, line) != len(line):
            raise OSError("the disk took a part of the record")
        if is_durable:
            os.fdatasync(handle)
        size = os.fstat(handle).st_size
    finally:
        os.close(handle)
    new = _Head(record["number"], record["hash"], segment, size)
    if not is_durable:
        return new
    if is_new:
        _fsync(folder)
    # In place and not by a rename: this file is the lock. After a power cut it may be older than the log, which the
    # next writer sees and repairs.
    os.pwrite(anchor, new.text(), 0)
    os.ftruncate(anchor, HEAD_BYTES)
    return new


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _recovered(folder: Path, text: bytes, anchor: int) -> _Head:
    """The anchor to write after. What lies behind the one on disk is taken in first: it was not durable, or a crash."""
    if not text and not _segments(folder):
        os.pwrite(anchor, _Head().text(), 0)  # so that a log without an anchor is never a crash
        return _Head()
    head = _Head.read(text)
    if head is None:
        return _write(folder, anchor, _newest(folder), {"event": "recovered", "cause": "anchor missing"})
    path, following = _segment(folder, head.segment), _segment(folder, head.segment + 1)
    size = path.stat().st_size if path.exists() else 0
    if size < head.size or not _ends_a_line(path, head.size):
        # Cut or changed. The chain goes on from the anchor, in a new file, so that what is left stays as it is.
        return _Head(head.number, head.hash, _next_segment(folder))
    if size == head.size and not following.exists():
        return head
    segment, end = head.segment, size
    number, digest, torn = _follow(_read_from(path, head.size), head.number, head.hash)
    if not torn and following.exists():  # a crash between the first record of a new file and the anchor
        tail = following.read_bytes()
        segment, end = head.segment + 1, len(tail)
        number, digest, torn = _follow(tail, number, digest)
    reached = _Head(number, digest, segment, end)
    if not torn:
        return reached
    entry = {
        "event": "recovered",
        "cause": "interrupted write",
        "torn_bytes": len(torn),
        "torn_sha256": hashlib.sha256(torn).hexdigest(),
    }
    return _write(folder, anchor, reached, entry, before=TORN)


def _read_from(path: Path, start: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as handle:
        handle.seek(start)
        return handle.read()


def _ends_a_line(path: Path, size: int) -> bool:
    if size == 0:
        return True
    with path.open("rb") as handle:
        handle.seek(size - 1)
        return handle.read(1) == b"\n"


def _follow(tail: bytes, number: int, digest: str) -> tuple[int, str, bytes]:
    """Walk whole records that follow from (number, digest); returns the last reached and the bytes left over."""
    at = 0
    while (end := tail.find(b"\n", at)) >= 0:
        record = _parsed(tail[at : end + 1])
        if record is None or record["number"] != number + 1 or record["previous"] != digest:
            break
        number, digest, at = record["number"], record["hash"], end + 1
    return number, digest, tail[at:]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The record that a line is, when it is exactly as we write one and its hash is right."""
    try:
        record = json.loads(line)
        is_ours = (
            isinstance(record, dict)
            and isinstance(record.get("number"), int)
            and {"previous", "hash"} <= set(record)
            and _line(record) == line
            and record["hash"] == _digest(record)
        )
    except (ValueError, RecursionError):
        return None
    return record if is_ours else None


def _newest(folder: Path) -> _Head:
    """Where the chain goes on when the anchor is gone: after the last whole record."""
    paths = _segments(folder)
    number, digest = 0, FIRST
    for path in paths:
        for line in _lines(path):
            if record := _parsed(line):
                number, digest = record["number"], record["hash"]
    return _Head(number, digest, _next_segment(folder))


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """All whole records, oldest first; damaged lines are `verify`'s to report."""
    for path in _segments(folder):
        for line in _lines(path):
            if record := _parsed(line):
                yield record


def verify(folder: Path, anchor: str | None = None) -> Verdict:
    """Follow the chain from its first byte to its last.

    Parameters
    ----------
    anchor
        `NUMBER:HASH` as printed by an earlier call and kept elsewhere: that record must still be there.

    Raises
    ------
    RanvierError
        The log cannot be read.
    """
    wanted = _anchor(anchor)
    found = Verdict()
    try:
        with _shared(folder) as text:
            _Walk(folder, found, text, wanted).run()
    except OSError as error:
        raise RanvierError("The audit log cannot be read; check who may read the audit folder") from error
    return found


def _anchor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    number, _, digest = text.strip().partition(":")
    if not number.isascii() or not number.isdigit() or len(digest) != len(FIRST):
        raise RanvierError("An anchor is NUMBER:HASH, as `ranvier audit verify` prints it")
    return int(number), digest


@contextmanager
def _shared(folder: Path) -> Iterator[bytes | None]:
    """The anchor's bytes while nobody writes; None where there is no anchor."""
    try:
        handle = os.open(folder / "head.json", os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield os.pread(handle, HEAD_BYTES * 2, 0)
    finally:
        os.close(handle)


class _Walk:
    """One pass over all files, keeping what the next line must follow from."""

    def __init__(self, folder: Path, found: Verdict, text: bytes | None, wanted: tuple[int, str] | None) -> None:
        self._folder = folder
        self._found = found
        self._text = text
        self._wanted = wanted
        self._number, self._digest = 0, FIRST
        self._torn = b""
        self._torn_where = ""
        self._anchored: int | None = 0 if text == _Head().text() else None
        """Number of the record that the anchor belongs to."""

    def run(self) -> None:
        paths = _segments(self._folder)
        for position, path in enumerate(paths, 1):
            if path != _segment(self._folder, position):
                self._found.problems.append(f"{_segment(self._folder, position).name} is missing before {path.name}")
            self._file(path, is_last=position == len(paths))
        self._check_head()
        self._found.records = self._number
        self._found.anchor = f"{self._number}:{self._digest}" if self._number else None
        if self._wanted is not None:
            self._found.problems.append(f"record {self._wanted[0]} of the anchor you gave is not in the log")

    def _file(self, path: Path, *, is_last: bool) -> None:
        size = 0
        segment = _number_of(path)
        for count, line in enumerate(_lines(path), 1):
            size += len(line)
            record = _parsed(line)
            where = f"{path.name} line {count}"
            if record is None:
                self._torn += line
                self._torn_where = self._torn_where or where
                continue
            self._record(record, where)
            if self._text == _Head(self._number, self._digest, segment, size).text():
                self._anchored = self._number
        if not self._torn:
            return
        if is_last and self._is_interrupted():
            self._found.notes.append(
                f"{self._torn_where}: {len(self._torn)} bytes of an interrupted write; the next query records them"
            )
        else:
            self._found.problems.append(f"{self._torn_where} was changed, or is no record")
        self._torn, self._torn_where = b"", ""

    def _is_interrupted(self) -> bool:
        """Whether what is left at the end is a record cut short: nothing the anchor knows of, and no end of line."""
        return self._anchored is not None and b"\n" not in self._torn

    def _record(self, record: dict[str, Any], where: str) -> None:
        if record.get("event") == "recovered":
            self._recovery(record, where)
        if self._torn:
            self._found.problems.append(f"{self._torn_where} was changed, or is no record")
        if record["number"] != self._number + 1 or record["previous"] != self._digest:
            self._found.problems.append(
                f"{where} does not follow from the record before it: number {record['number']} after {self._number}"
            )
        self._torn, self._torn_where = b"", ""
        self._number, self._digest = record["number"], record["hash"]
        if self._wanted == (self._number, self._digest):
            self._wanted = None

    def _recovery(self, record: dict[str, Any], where: str) -> None:
        if record.get("cause") == "anchor missing":
            self._found.problems.append(f"{where}: the anchor had been removed or changed; the end may have been cut")
            return
        left = self._torn.removesuffix(TORN)
        if (len(left), hashlib.sha256(left).hexdigest()) == (record.get("torn_bytes"), record.get("torn_sha256")):
            when = record["written_datetime"]
            self._found.notes.append(f"{self._torn_where}: a write was interrupted; found and recorded at {when}")
            self._torn = b""

    def _check_head(self) -> None:
        if self._text is None or not self._text:
            if self._number:
                self._found.problems.append("head.json, the anchor, is missing; the end may have been cut")
            return
        reached, head = self._anchored, _Head.read(self._text)
        if head is None:
            self._found.problems.append("head.json, the anchor, was changed")
        elif reached is None and head.number > self._number:
            self._found.problems.append(
                f"records {self._number + 1} to {head.number} are missing: the log ends before its anchor"
            )
        elif reached is None:
            self._found.problems.append("head.json, the anchor, does not belong to this log, or the log was changed")
        elif reached < self._number:
            self._found.notes.append(
                f"the anchor knows the records up to {reached} of {self._number}; the next query anchors the rest"
            )
