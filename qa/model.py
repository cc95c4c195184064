"""What QA says: a measure, a verdict, a finding.

Here: the three typed answers every part of `qa` gives. Not here: how they are reached, or how they are stored
(`warehouse.tables`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["higher", "lower", "target", "none"]
"""Which way is better: higher values, lower values, close to a target, or neither."""
VerdictValue = Literal["pass", "fail", "undetermined"]


@dataclass(frozen=True)
class Reason:
    """Why there is no value: a code to count by and a sentence to read."""

    code: str
    text: str


@dataclass(frozen=True)
class Measure:
    """One image measure of one series: a value in `unit`, or a reason; never both, never a sentinel."""

    name: str
    value: float | None
    unit: str
    direction: Direction
    method_version: str
    reason: Reason | None = None
    mask_sha256: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.name} needs either a value or a reason")


@dataclass(frozen=True)
class Verdict:
    """What becomes of a series, and every reason for it."""

    value: VerdictValue
    reasons: tuple[str, ...] = ()
    rule_ids: tuple[str, ...] = ()
    is_refused: bool = False
    """Not an image of a head: its files count as refused."""


@dataclass(frozen=True)
class Finding:
    """Something a site or a data manager should act on. Its identity is its rule and its entity."""

    rule_id: str
    site_code: str
    entity_kind: Literal["row", "series", "subject", "delivery", "site"]
    entity_key: str
    severity: Literal["error", "warning"]
    quality_class: str
    message: str
    action: str
    where_found: str = ""
    delivery_key: str | None = None
    subject_key: str | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.rule_id}\x1f{self.entity_key}".encode()).hexdigest()
        object.__setattr__(self, "key", digest[:24])
