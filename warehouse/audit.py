"""Who asked what: the log of every question, without the values that were asked about.

Here: what is written of a question, and reading it again. Not here: how the log keeps its records from being changed
(`warehouse.chain`), deciding what is allowed (`warehouse.gateway`), what is kept of a statement
(`warehouse.placeholders`).

A question is two records: one on disk before any row of its answer is seen, and one with rows, seconds and outcome at
its end, which nobody waits for the disk with. A question whose asker was killed, or whose end a power cut took, keeps
its first record and reads as `unfinished`.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Literal

from warehouse import chain
from warehouse.chain import Verdict
from warehouse.home import Home
from warehouse.placeholders import without_literals

__all__ = ["Question", "Verdict", "append", "ask", "entries", "names", "verify", "without_literals"]

LONGEST_STATEMENT = 8000
"""Characters of a statement that the log keeps."""
FIELDS = ("user", "via", "tier", "site", "project", "release", "statement")
End = Literal["answered", "refused", "abandoned", "no release"]
"""How a question ended: all rows given; a sentence given instead; the asker had seen enough; no such release."""


def append(home: Home, entry: dict[str, Any], *, is_durable: bool = True) -> None:
    """Add one record to the log; on disk when this returns, if it is durable.

    Raises
    ------
    RanvierError
        The log cannot be written; nothing may be answered then.
    """
    chain.append(home.audit, entry, is_durable=is_durable)


def verify(home: Home, anchor: str | None = None) -> Verdict:
    """Follow the log from its first byte to its last; `anchor` is one that was kept elsewhere.

    Raises
    ------
    RanvierError
        The log cannot be read, or `anchor` is none.
    """
    return chain.verify(home.audit, anchor)


class Question:
    """One question, from its first record to its last."""

    def __init__(self, home: Home, key: str) -> None:
        self._home = home
        self._start = time.monotonic()
        self.key = key
        self.is_open = True

    def end(self, outcome: End, rows: int = 0) -> None:
        """Write how it ended; the first call counts. Raises RanvierError when the log cannot be written."""
        if not self.is_open:
            return
        self.is_open = False
        append(
            self._home,
            {
                "query_key": self.key,
                "outcome": outcome,
                "rows": rows,
                "seconds": round(time.monotonic() - self._start, 3),
            },
            is_durable=False,
        )


def ask(home: Home, entry: dict[str, Any], sql: str, known: frozenset[str]) -> Question:
    """Write down that a question is asked, before anything of its answer is seen.

    Parameters
    ----------
    entry
        `user`, `tier`, `site`, `project` and `release`.
    known
        Names of tables and columns, in lower case: what may be kept of the statement.

    Raises
    ------
    RanvierError
        The log cannot be written; nothing may be answered then.
    """
    key = secrets.token_hex(8)
    statement = without_literals(sql, known)[:LONGEST_STATEMENT]
    append(home, {"query_key": key, "outcome": "asked", **entry, "statement": statement})
    return Question(home, key)


def entries(home: Home) -> list[dict[str, Any]]:
    """Every question, oldest first, with how it ended.

    `outcome` is `unfinished` where the end was never written: the asker was killed, or is still being answered. Records
    that are damaged are `verify`'s to report.
    """
    asked: dict[Any, dict[str, Any]] = {}
    for record in chain.records(home.audit):
        if "outcome" not in record:
            continue
        key = record.get("query_key", record["number"])
        seen = asked.setdefault(
            key,
            {
                "number": record["number"],
                "asked_datetime": record["written_datetime"],
                **{name: record.get(name) for name in FIELDS},
                "rows": None,
                "seconds": None,
            },
        )
        seen["outcome"] = "unfinished" if record["outcome"] == "asked" else record["outcome"]
        seen |= {name: record[name] for name in ("rows", "seconds") if record.get(name) is not None}
    return list(asked.values())


def names(entry: dict[str, Any], name: str) -> bool:
    """Whether a question's statement names a table or column."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", entry["statement"] or "", re.IGNORECASE) is not None
