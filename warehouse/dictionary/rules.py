"""What a rule of the dictionary is, and the rules that follow from how a variable or an entity is declared.

Here: the fields of a rule as the YAML files hold them, and the rules nobody has to write down: a required variable is
given, a value lies in its range, a date is not in the future. Not here: reading the files (`warehouse.dictionary`), or
judging (`qa.expectations`, `qa.across`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from warehouse.dictionary import Entity, Variable

QualityClass = Literal["representativeness", "consistency", "accuracy", "completeness"]
"""The four classes of data quality indicators that CLARION uses (doi:10.2147/CLEP.S480525)."""
Level = Literal["field", "row", "table", "cross_table", "longitudinal"]
"""What a rule has to see: one value, one row, all rows of a table, other tables, or one subject over time."""
Kind = Literal["range", "not_null", "not_future", "ordered", "together", "unique", "exists", "expression", "query"]


class KindOfRule(NamedTuple):
    """A kind of rule in words: when it holds, and what usually breaks it."""

    holds: str
    cause: str


KINDS: dict[str, KindOfRule] = {
    "range": KindOfRule(
        "The value lies in its range and on its steps; an empty value passes.",
        "A slip of the keyboard, another unit or scale, or a number that means missing (such as 99) and that the "
        "source profile does not name.",
    ),
    "not_null": KindOfRule(
        "The value is given.",
        "The column is not exported or not mapped in the source profile, or the cell was left empty.",
    ),
    "not_future": KindOfRule(
        "No date of the row lies after the day of judging; empty ones pass.",
        "Day and month, or digits of the year, changed places; or a planned date was exported.",
    ),
    "ordered": KindOfRule(
        "Two dates are in order, compared at the precision of the less precise; an empty one passes.",
        "One of the two dates was mistyped, or was set anew in one place and not in the other.",
    ),
    "together": KindOfRule(
        "Two values are both given or both empty.", "Only one of the two fields is filled in at the visit, or exported."
    ),
    "unique": KindOfRule(
        "The key stands once in a delivery; the first row stays, those after it break the rule.",
        "The export joins two tables and repeats rows, or one event was entered twice.",
    ),
    "exists": KindOfRule(
        "The patient stands in another table, in this delivery or an earlier one.",
        "The two tables were exported on different days or with different filters, or an identifier was changed.",
    ),
    "expression": KindOfRule(
        "The row keeps a condition over its own values; where one of them is empty it does not apply.",
        "Two fields that belong together were filled in at different times, or from different sources.",
    ),
    "query": KindOfRule(
        "The row agrees with other rows or tables that are in force.",
        "An event was recorded twice, or a date was corrected in one table only.",
    ),
}
LEVELS: dict[str, Level] = {
    "range": "field",
    "not_null": "field",
    "not_future": "row",
    "ordered": "row",
    "together": "row",
    "expression": "row",
    "unique": "table",
    "exists": "cross_table",
}
"""Level of each kind of rule; a query says its own."""


class Rule(BaseModel):
    """A rule: what must hold, how bad it is when it does not, and what the site can do about it.

    `kind` says how it is judged:

    - `range`, `not_null`: on `column` (made from the variable's own declaration)
    - `not_future`: none of `columns` lies after the day of judging (made for each entity's dates)
    - `ordered`: `column` <= `other` (strictly with `strict`), compared at the precision of the less precise of the two:
      a first of January may be a year, a first of a month may be a month; nulls pass
    - `together`: `column` and `other` are both given or both absent
    - `unique`: `columns` are a key of the delivery
    - `exists`: the row's subject is in the table `reference`
    - `expression`: `sql` is a Boolean expression over the row; null where the rule does not apply
    - `query`: `sql` is a select of `row_key, holds` over the entity's and other `tables`, by their names. It sees what
      is in force: of each key the newest row, without rows that break an error rule
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: Kind
    level: Level
    severity: Literal["error", "warning"]
    quality_class: QualityClass
    text: str
    """What is wrong, as the site reads it."""
    action: str
    """What the site can do about it."""
    cause: str | None = None
    """What it usually comes from; each kind has a cause of its own where none is told."""
    who: str = "registry staff of the site"
    """Who acts."""
    note: str | None = None
    """Why the rule is as it is: its threshold, its exemptions, what was not verified."""
    source: str
    algorithm: str | None = None
    """Name and version of the algorithm that the rule compares with; told with every finding."""
    threshold_pct: float = 0.0
    """Share of the rows looked at that may break it before it counts as broken. Above 0 it is about the site's data as
    a whole: one finding for the site instead of one a row."""
    column: str | None = None
    other: str | None = None
    columns: list[str] = []
    strict: bool = False
    reference: str | None = None
    tables: list[str] = []
    sql: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    excluded: list[float] = []
    unless: dict[str, list[str]] = {}
    """Column -> values for which the rule does not apply."""

    @model_validator(mode="before")
    @classmethod
    def _level_of_its_kind(cls, raw: object) -> object:
        if isinstance(raw, dict) and "level" not in raw and raw.get("kind") in LEVELS:
            return raw | {"level": LEVELS[raw["kind"]]}
        return raw

    @model_validator(mode="after")
    def _is_whole(self) -> Rule:
        if (self.kind in ("expression", "query")) != (self.sql is not None):
            raise ValueError(f"{self.id}: rules of kind expression and query have sql, others have none")
        if self.kind == "query" and self.severity == "error":
            # Rows that break an error rule leave the tables a query sees; it cannot be one of them.
            raise ValueError(f"{self.id}: a query is a warning")
        if self.kind == "exists" and self.reference is None:
            raise ValueError(f"{self.id} names no table that the subject must be in")
        return self

    @property
    def is_of_the_site(self) -> bool:
        """It judges a share of rows and makes one finding for the site."""
        return self.threshold_pct > 0

    def names(self, entity: Entity) -> list[str]:
        """Stored columns of the rule's own table that it looks at, in the order they are told."""
        told = [self.column, self.other, *self.columns, *self.unless]
        if self.sql:
            words = set(re.findall(r"\w+", self.sql))
            told += [v.name for v in entity.stored_variables if v.name in words]
        return [name for name in dict.fromkeys(told) if name]


def made_rules(entity: Entity) -> list[Rule]:
    """Rules that follow from an entity's declaration: required variables, ranges, and dates that are not to come."""
    made = []
    for v in entity.stored_variables:
        if v.required:
            made.append(_required(entity, v))
        if v.rule:
            made.append(_in_range(v))
    if dates := [v.name for v in entity.stored_variables if v.type == "date"]:
        made.append(_not_future(entity, dates))
    return made


def _required(entity: Entity, v: Variable) -> Rule:
    return Rule(
        id=f"REQ_{entity.name}_{v.name}",
        kind="not_null",
        level="field",
        severity="error",
        quality_class="completeness",
        text=f"{v.name} is missing",
        action=f"Fill in {v.name} and send the row again.",
        source=v.source,
        column=v.name,
    )


def _in_range(v: Variable) -> Rule:
    return Rule(
        id=str(v.rule),
        kind="range",
        level="field",
        severity=v.severity,
        quality_class="accuracy",
        text=f"{v.name} must be {range_text(v)}",
        action=f"Check {v.name} against the clinical record and send the row again.",
        source=v.source,
        column=v.name,
        minimum=v.minimum,
        maximum=v.maximum,
        step=v.step,
        excluded=v.excluded,
    )


def _not_future(entity: Entity, dates: list[str]) -> Rule:
    return Rule(
        id=f"R05_future_{entity.name}",
        kind="not_future",
        level="row",
        severity="warning",
        quality_class="consistency",
        text=f"{' or '.join(dates)} lies in the future",
        action="Check the date; if it is a plan, send it once it has happened.",
        cause="Day and month, or two digits of the year, changed places; or a planned appointment was exported.",
        source="MSBase data quality: no event after the extract; a warning, as registries hold planned dates",
        columns=dates,
    )


def range_text(v: Variable | Rule) -> str:
    """A range in words: `from 0 to 10 in steps of 0.5, never 0.5`."""
    words = []
    if v.minimum is not None and v.maximum is not None:
        words.append(f"from {v.minimum:g} to {v.maximum:g}")
    elif v.minimum is not None:
        words.append(f"at least {v.minimum:g}")
    elif v.maximum is not None:
        words.append(f"at most {v.maximum:g}")
    if v.step is not None:
        words.append(f"in steps of {v.step:g}")
    text = " ".join(words)
    if v.excluded:
        text += ", never " + " or ".join(f"{x:g}" for x in v.excluded)
    return text
