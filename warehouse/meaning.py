"""What a column means, and what each tier makes of it.

Here: finding a name among the dictionary's variables and the columns of all tiers. Not here: declaring them
(`warehouse.dictionary`, `warehouse/policy/*.yaml`), printing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from warehouse.dictionary import Variable, load_dictionary, range_text
from warehouse.policy import Column, Table, load_policy

HOW = {
    "keep": "as it is",
    "year": "year only",
    "month": "month only",
    "round_half": "rounded to 0.5",
    "redact": "small counts empty, others rounded",
    "unless_small": "empty where few subjects stand behind it",
}
"""Words for what a tier does to a column; what is not here is named as the policy names it."""


@dataclass(frozen=True)
class Place:
    """A column of a tier's file."""

    tier: str
    table: str
    column: str
    """Its name there: `visit_date` is `visit_year` in registered."""
    how: str


@dataclass
class Meaning:
    """A variable of the dictionary, or a column that the marts make."""

    name: str
    of: str
    """Table of the dictionary, or the marts' tables that have the column."""
    definition: str
    type: str
    unit: str | None = None
    allowed: str | None = None
    source: str | None = None
    disclosure: str | None = None
    msda: str | None = None
    sdtm: str | None = None
    omop: str | None = None
    note: str | None = None
    """What of the definition was not read in its source."""
    least_tier: str | None = None
    """The least trusted tier that sees a variable at row level."""
    places: list[Place] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _columns() -> Iterator[tuple[str, Table, Column]]:
    for tier, tables in load_policy().tiers.items():
        for table in tables.values():
            for column in table.columns:
                yield tier, table, column


def _place(tier: str, table: Table, column: Column) -> Place:
    return Place(tier, table.name, column.name, HOW.get(column.how, column.how.replace("_", " ")))


def _variable(entity: str, v: Variable) -> Meaning:
    allowed = "; ".join(f"{code} {meaning}" for code, meaning in v.codes.items()) if v.codes else range_text(v)
    places = [
        _place(*found)
        for found in _columns()
        if found[2].variable is not None and (found[2].variable.name, found[2].variable.rule) == (v.name, v.rule)
    ]
    return Meaning(
        v.name,
        entity,
        v.definition,
        v.type,
        v.unit,
        allowed,
        v.source,
        v.disclosure,
        v.msda,
        v.sdtm,
        v.omop,
        v.note,
        least_tier=v.tier,
        places=places,
    )


def find_meanings(name: str | None = None) -> list[Meaning]:
    """Everything that is called `name` in the dictionary or in a tier; every variable of the dictionary without one.

    A name that a tier gives to a column, such as `visit_year`, finds what it was made from.
    """
    wanted = name.lower() if name else None
    every = [(entity.name, v) for entity in load_dictionary().entities.values() for v in entity.variables]
    if wanted is None:
        return [_variable(entity, v) for entity, v in every]
    seen = [found for found in _columns() if wanted in (found[2].name, found[2].source)]
    variables = {wanted} | {column.variable.name for _, _, column in seen if column.variable is not None}
    meanings = [_variable(entity, v) for entity, v in every if v.name in variables]
    # What the marts make: one meaning for each definition, since `series_count` may count different things.
    made: dict[str, Meaning] = {}
    for tier, table, column in seen:
        if column.variable is not None:
            continue
        definition = column.description.removeprefix("Year of: ")
        meaning = made.setdefault(definition, Meaning(column.source, table.source, definition, column.type))
        meaning.places.append(_place(tier, table, column))
    return meanings + list(made.values())


def nearest_names(name: str) -> list[str]:
    """Names of variables and columns that look like `name`, the nearest first."""
    known = {v.name for entity in load_dictionary().entities.values() for v in entity.variables}
    known |= {column.name for _, _, column in _columns()}
    return difflib.get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.5)
