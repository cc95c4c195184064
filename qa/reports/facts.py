"""What a site's report is made of: the facts, without a word about how they were found or how they look.

Here: dataclasses. Not here: reading the lake (`gather`), words, drawing or the page. Nothing in them is a subject,
session, series or row key.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Task:
    """One thing to do: everything that one rule or one reason found."""

    title: str
    who: str
    severity: str  # error | refused | warning
    count: int
    actions: list[str]
    places: list[str]
    places_more: int = 0


@dataclass
class Count:
    """How much of one kind was sent, and what became of it: sent = accepted + refused."""

    sent: int = 0
    refused: int = 0

    @property
    def accepted(self) -> int:
        return self.sent - self.refused

    def __add__(self, other: Count) -> Count:
        return Count(self.sent + other.sent, self.refused + other.refused)


@dataclass
class DeliveryLine:
    name: str
    received: str
    files: Count
    rows: Count
    scans: Count
    passed: int
    judged: int
    state: str  # used | replaced | waiting | unreadable
    reason: str


@dataclass
class Refusal:
    """Things left out for one reason."""

    kind: str  # row | file | scan
    what: str
    why: str
    action: str
    count: int
    places: list[str]
    places_more: int
    lines: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FlaggedScan:
    name: str
    delivery: str
    verdict: str
    reasons: list[str]
    picture: Path | None


@dataclass
class Panel:
    """One measure of one contrast: the site's values, and the network's when enough sites have it."""

    contrast: str
    measure: str
    unit: str
    direction: str
    values: list[float]
    network: tuple[float, float, float] | None  # 5 %, median, 95 %

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_better(self) -> bool:
        if self.network is None or len(self.values) < 3:
            return False
        return {
            "higher": self.median > self.network[1],
            "lower": self.median < self.network[1],
            "target": abs(self.median) < abs(self.network[1]),
        }.get(self.direction, False)


@dataclass
class TrendPoint:
    label: str
    rows_pct: float | None
    scans_pct: float | None


@dataclass
class Facts:
    """Everything the sections of a report may show."""

    site: str
    as_of: str
    tasks: list[Task]
    deliveries: list[DeliveryLine]
    tables: list[tuple[str, Count]]
    refusals: list[Refusal]
    verdicts: dict[str, int]
    flagged: list[FlaggedScan]
    flagged_more: int
    waiting: list[tuple[str, int]]
    panels: list[Panel]
    network_sites_minimum: int
    by_delivery: list[TrendPoint]
    by_month: list[TrendPoint]
    checks: list[dict[str, Any]]
    checks_passed: int
    checks_empty: int
    checks_count: int
    praise: list[str]

    @property
    def files(self) -> Count:
        return sum((line.files for line in self.deliveries), Count())

    @property
    def rows(self) -> Count:
        return sum((line.rows for line in self.deliveries), Count())

    @property
    def series_count(self) -> int:
        return sum(self.verdicts.values())
