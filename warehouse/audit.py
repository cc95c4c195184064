"""Who asked what: an append-only, hash-chained log without the values that were asked about.

Here: writing and verifying `<home>/audit/queries.jsonl`, and replacing literals. Not here: deciding what is allowed
(`warehouse.gateway`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warehouse.errors import RanvierError
from warehouse.home import Home

FIRST = "0" * 64

LITERAL = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[^\W\d]\w*)
    | (?P<number>\.?\d[\w.]*)
    """,
    re.VERBOSE | re.DOTALL,
)


def without_literals(sql: str, known: frozenset[str] = frozenset()) -> str:
    """The statement with every value replaced by `?`.

    Parameters
    ----------
    known
        Table and column names, in lower case. A quoted name that is none of them may be a value in the wrong quotes, so
        it is replaced too. A bare word that carries a digit and is not known may be a key or a record number: likewise.
    """

    def replaced(match: re.Match[str]) -> str:
        text = match.group(0)
        if match.group("comment"):
            return " "
        if match.group("quoted"):
            return text if text[1:-1].lower() in known else "?"
        if match.group("word"):
            return "?" if any(c.isdigit() for c in text) and text.lower() not in known else text
        return "?"

    return " ".join(LITERAL.sub(replaced, sql).split())


def _path(home: Home) -> Path:
    return home.audit / "queries.jsonl"


def _digest(record: dict[str, Any]) -> str:
    body = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def append(home: Home, entry: dict[str, Any]) -> None:
    """Add one entry to the chain; on disk when this returns.

    Raises
    ------
    RanvierError
        The log cannot be written, or its last line is damaged; nothing may be answered then.
    """
    path = _path(home)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise RanvierError(
            "The audit log cannot be written, so no query is answered; check the audit folder"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        last = _last_record(handle)
        record = {
            "number": last["number"] + 1 if last else 1,
            "asked_datetime": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **entry,
            "previous": last["hash"] if last else FIRST,
        }
        record["hash"] = _digest(record)
        os.write(
            handle,
            (json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        )
        os.fsync(handle)
    finally:
        os.close(handle)


def _last_record(handle: int) -> dict[str, Any] | None:
    size = os.fstat(handle).st_size
    if size == 0:
        return None
    # The statement is cut at 8 kB, so one record fits; read from the end, as the log only grows.
    block = os.pread(handle, 65536, max(0, size - 65536))
    try:
        record: dict[str, Any] = json.loads(block.rstrip(b"\n").rsplit(b"\n", 1)[-1])
        if not block.endswith(b"\n") or not {"number", "hash"} <= set(record):
            raise ValueError("not a whole record")
    except ValueError as error:
        raise RanvierError(
            "The last line of the audit log is damaged, so no query is answered; keep a copy of"
            " audit/queries.jsonl, remove its last line and try again"
        ) from error
    return record


def verify(home: Home) -> list[str]:
    """What is wrong with the chain, in words; empty when every record follows from the one before."""
    path = _path(home)
    if not path.exists():
        return []
    problems = []
    previous, number = FIRST, 0
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            problems.append(f"line {line_number} is not a record")
            continue
        number += 1
        if record.get("number") != number or record.get("previous") != previous:
            problems.append(f"line {line_number} does not follow the one before it")
        if record.get("hash") != _digest(record):
            problems.append(f"line {line_number} was changed")
        previous, number = record.get("hash", ""), record.get("number", number)
    return problems


def entries(home: Home) -> list[dict[str, Any]]:
    """All records, oldest first."""
    path = _path(home)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
