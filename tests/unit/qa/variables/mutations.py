"""One fault per rule of the dictionary, each planted in a patient of its own, so that a site is judged once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from tests.unit.qa.frames import DELIVERY, ROWS, SITE
from warehouse.dictionary import Rule, load_dictionary
from warehouse.tables import schema_of

Row = dict[str, Any]
Person = dict[str, list[Row]]
TODAY = date(2026, 1, 15)


@dataclass(frozen=True)
class Mutation:
    """What is done to a sound patient, and which row then breaks which rule."""

    rule: Rule
    entity: str
    what: str
    change: Callable[[Person], int]
    """Spoils the person's rows; returns the index of the row of `entity` that breaks the rule."""


def sound_person() -> Person:
    """Everything about one patient that breaks no rule."""
    return {name: [dict(row) for row in rows if row["subject_key"] == "sbj_2"] for name, rows in ROWS.items()}


def _set(entity: str, index: int = 0, **values: Any) -> Callable[[Person], int]:
    def change(person: Person) -> int:
        person[entity][index] |= values
        return index

    return change


def _add(entity: str, **values: Any) -> Callable[[Person], int]:
    def change(person: Person) -> int:
        person[entity].append(person[entity][-1] | values)
        return len(person[entity]) - 1

    return change


def _together(*changes: Callable[[Person], int]) -> Callable[[Person], int]:
    """Several changes; the last one spoils."""

    def change(person: Person) -> int:
        return [each(person) for each in changes][-1]

    return change


def _without(table: str) -> Callable[[Person], int]:
    def change(person: Person) -> int:
        person[table].clear()
        return 0

    return change


WRITTEN: dict[str, Callable[[Person], int]] = {
    "R03": _set("visit", edss=3.5),
    "R04a": _set("visit", edss=4.5, fs_ambulation=3),
    "R04b": _set("visit", edss=5.5, fs_ambulation=None, t25fw_s=None),
    "R05c": _set("visit", visit_date=date(2010, 4, 30)),
    "R05d": _set("patient", death_date=date(2021, 2, 20)),
    "R08a": _add("treatment", dmt="fingolimod", start_date=date(2020, 12, 20), stop_date=None, stop_reason=None),
    "R08b": _add("treatment", start_date=date(2021, 1, 20)),
    "R10": _add("relapse", relapse_date=date(2020, 7, 1)),
    "R11": _add("relapse", relapse_date=date(2020, 2, 10)),
    "R16": _set("diagnosis", 1, diagnosis="CIS"),
    "R16_visit": _together(_set("visit", 0, visit_course="PPMS"), _set("visit", 1, visit_course="RRMS")),
    "R17a": _set("mri_session", is_contrast_given=False),
    "R17b": _set("mri_session", comparison_mri_date=None),
    "R19": _set("patient", diagnosis_criteria="mcdonald_2017"),
    "R20": _set("treatment", start_date=date(2016, 12, 30)),
}
"""Rules of SQL: what breaks each. Which row it is, is told by `BROKEN` where it is not the changed one."""
BROKEN = {"R05d": ("visit", 1), "R11": ("visit", 0)}


def _values(rule: Rule) -> Iterator[Row]:
    """Every way in which one value can break a rule of one value."""
    column, step = str(rule.column), rule.step or 1
    if rule.kind == "not_null":
        yield {column: None}
    if rule.kind == "range":
        yield from ({column: value} for value in rule.excluded)
        if rule.minimum is not None:
            yield {column: rule.minimum - step}
        if rule.maximum is not None:
            yield {column: rule.maximum + step}
        if rule.step is not None:
            yield {column: (rule.minimum or 0) + 3 * rule.step + rule.step / 2}


def _ordered(rule: Rule, entity: str, row: Row) -> Callable[[Person], int]:
    other = row.get(str(rule.other)) or date(2021, 6, 20)
    return _set(entity, **{str(rule.other): other, str(rule.column): other + timedelta(days=0 if rule.strict else 1)})


def _of_rule(rule: Rule, entity: str) -> Iterator[tuple[str, Callable[[Person], int]]]:
    row = sound_person()[entity][0]
    for values in _values(rule):
        yield str(values), _set(entity, **values)
    if rule.kind == "ordered":
        yield "out of order", _ordered(rule, entity, row)
    if rule.kind == "together":
        for gone in (rule.column, rule.other):
            yield f"without {gone}", _set(entity, **{str(gone): None})
    if rule.kind == "unique":
        yield "row twice", _add(entity)
    if rule.kind == "not_future":
        name = "mri_date" if entity == "mri_session" else rule.columns[-1]
        yield f"{name} to come", _set(entity, **{name: TODAY + timedelta(days=400)})
    if rule.kind == "exists" and rule.reference != "patient":
        yield f"no {rule.reference} row", _without(str(rule.reference))
    if rule.id in WRITTEN:
        yield "written", WRITTEN[rule.id]


def mutations() -> list[Mutation]:
    """Every fault that is about one patient. Rules about a site as a whole, and strangers, are tested by themselves."""
    return [
        Mutation(rule, entity, what, change)
        for entity, rule in load_dictionary().rules
        for what, change in _of_rule(rule, entity)
    ]


def frames_of(people: dict[str, Person]) -> dict[str, pl.DataFrame]:
    """Registry tables of these patients, by subject key; a row's key is subject, table and place."""
    return {
        entity: pl.DataFrame(
            [
                {
                    "site_code": SITE,
                    "delivery_key": DELIVERY,
                    "row_key": f"{subject}-{entity}-{index}",
                    "file_number": 1,
                    "source_row": number,
                }
                | row
                | {"subject_key": subject}
                for number, (subject, index, row) in enumerate(
                    (subject, index, row)
                    for subject, person in people.items()
                    for index, row in enumerate(person[entity])
                )
            ],
            schema=schema_of(f"raw_registry__{entity}"),
        )
        for entity in ROWS
    }
