"""Every rule of the dictionary finds the row that breaks it, and only that rule does."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from qa.expectations import suite_sizes
from qa.variables import validate_frames
from tests.unit.qa.frames import ROWS, SITE, base, frame
from warehouse.dictionary import Rule, load_dictionary

RULES = load_dictionary().rules


def broken_values(rule: Rule) -> list[dict[str, Any]]:
    """Every way in which one row can break a rule of one row."""
    match rule.kind:
        case "not_null":
            return [{str(rule.column): None}]
        case "range":
            step = rule.step or 1
            values = list(rule.excluded)
            if rule.minimum is not None:
                values.append(rule.minimum - step)
            if rule.maximum is not None:
                values.append(rule.maximum + step)
            if rule.step is not None:
                values.append((rule.minimum or 0) + 3 * rule.step + rule.step / 2)
            return [{str(rule.column): value} for value in values]
    return []


def mutate(entity: str, rule: Rule) -> list[tuple[dict[str, pl.DataFrame], str, str]]:
    """(frames, broken row's key, what was done) for each way to break a rule."""
    index = 1
    rows = [dict(row) for row in ROWS[entity]]
    made = []

    def with_rows(changed: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
        return base() | {entity: frame(entity, changed)}

    key = f"01-{entity}-{index + 2}"
    for values in broken_values(rule):
        made.append((with_rows([row | (values if i == index else {}) for i, row in enumerate(rows)]), key, str(values)))
    if rule.kind == "ordered":
        if rule.column in rows[index]:
            other = rows[index][str(rule.other)] or date(2021, 1, 1)
            values = {str(rule.column): other + timedelta(days=0 if rule.strict else 1), str(rule.other): other}
            if rule.id == "R07a":
                values = {"start_date": date(2021, 3, 1), "stop_date": date(2021, 2, 28)}
        else:  # a joined fact: the row's own date goes before the other table's
            values = {str(rule.other): date(2010, 5, 1) - timedelta(days=1)}
            index = 0
            key = f"01-{entity}-2"
        made.append((with_rows([r | (values if i == index else {}) for i, r in enumerate(rows)]), key, str(values)))
    if rule.kind == "together":
        for gone in (rule.column, rule.other):
            changed = [row | ({str(gone): None} if i == index else {}) for i, row in enumerate(rows)]
            made.append((with_rows(changed), key, f"without {gone}"))
    if rule.kind == "unique":
        made.append((with_rows([*rows, rows[index]]), f"01-{entity}-{len(rows) + 2}", "row twice"))
    if rule.kind == "minimum_gap":
        assert rule.value is not None
        column = str(rule.column)
        near = rows[0][column] + timedelta(days=rule.value - 1)
        made.append((with_rows([r | ({column: near} if i == 1 else {}) for i, r in enumerate(rows)]), key, "too near"))
    if rule.kind == "exists":
        reference, kept = str(rule.reference), base()
        subject = rows[index]["subject_key"]
        if reference == "patient":
            stranger = rows[index] | {"subject_key": "sbj_99"}
            made.append((with_rows([*rows, stranger]), f"01-{entity}-{len(rows) + 2}", "a stranger"))
        else:
            kept[reference] = kept[reference].filter(pl.col("subject_key") != subject)
            made.append((kept, key, f"no {reference} row"))
    assert made, f"no way to break {rule.id}"
    return made


def test_a_site_without_fault_has_no_finding() -> None:
    results, refused, findings = validate_frames(base(), SITE)
    assert findings == []
    assert refused.is_empty()
    assert set(results["status"]) == {"pass"}
    assert results.height == len(RULES)
    assert results["denominator_count"].min() > 0


@pytest.mark.parametrize(("entity", "rule"), RULES, ids=[rule.id for _, rule in RULES])
def test_the_broken_row_is_found_by_its_rule_alone(entity: str, rule: Rule) -> None:
    for frames, row_key, what in mutate(entity, rule):
        # Only the table and those the rule compares it with: the rules of the others are not what is asked.
        compared = {str(rule.reference), *(join.entity for join in load_dictionary().entities[entity].joins)}
        given = {name: table for name, table in frames.items() if name in {entity, *compared}}
        results, refused, findings = validate_frames(given, SITE)
        own = [finding for finding in findings if finding.rule_id == rule.id]
        assert [finding.entity_key for finding in own] == [row_key], what
        assert own[0].severity == rule.severity
        assert {finding.rule_id for finding in findings} == {rule.id}, what
        assert set(refused["row_key"]) == ({row_key} if rule.severity == "error" else set()), what
        row = results.filter(pl.col("rule_id") == rule.id).row(0, named=True)
        assert (row["status"], row["violated_count"], row["sample_row_keys"]) == ("fail", 1, [row_key])


def test_great_expectations_holds_as_many_expectations_as_the_dictionary_has_rules() -> None:
    assert sum(suite_sizes().values()) == len(RULES)
