"""From the dictionary's rules to Great Expectations suites, one expectation per rule.

Here: what each kind of rule means on a frame, and the expectation that judges it. Where Great Expectations has no
built-in, a helper column holds the answer per row (true, false, or null where the rule does not apply) and the
expectation wants it true, so that rows come back in one way. Not here: rules that are SQL (`qa.across`), running the
suites (`qa.judge`).
"""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.errors import DictionaryError

if TYPE_CHECKING:
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

STEP_TOLERANCE = 1e-9
"""Relative slack when a value is tested for being a multiple of a step: decimal steps are not exact in binary."""

Frames = dict[str, pl.DataFrame]


def quiet_context() -> EphemeralDataContext:
    """A Great Expectations context in memory that reports nothing to anyone and prints no progress.

    Great Expectations takes 3 to 16 s to import, so it is imported here and nowhere at module level.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
        # No docs site: an ephemeral context would leave one in the machine's temporary folder.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def helper_column(rule: Rule) -> str:
    """Name of the column that holds the rule's answer per row."""
    return f"holds_{rule.id}"


def is_built_in(rule: Rule) -> bool:
    """Great Expectations judges the rule on the delivered columns themselves."""
    if rule.unless:
        return False
    if rule.kind == "range":
        return rule.step is None and not rule.excluded
    return rule.kind == "not_null"


def build_suite(entity: Entity) -> ExpectationSuite:
    """The suite of one registry table: exactly one expectation per rule, told apart by `meta["rule"]`.

    Raises
    ------
    DictionaryError
        The suite does not hold as many expectations as the table has rules. Great Expectations drops expectations
        that serialise alike even when their `meta` differs; the rule id in `description` keeps them apart.
    """
    import great_expectations as gx

    rules = entity.all_rules
    suite = gx.ExpectationSuite(name=entity.name)
    for rule in rules:
        suite.add_expectation(_expectation(rule))
    found = sorted(expectation.meta["rule"] for expectation in suite.expectations if expectation.meta)
    if found != sorted(rule.id for rule in rules):
        raise DictionaryError(f"The suite of {entity.name} has {len(found)} expectations for {len(rules)} rules")
    return suite


def suite_sizes(dictionary: Dictionary | None = None) -> dict[str, int]:
    """Expectations per registry table, as Great Expectations holds them."""
    quiet_context()
    dictionary = dictionary or load_dictionary()
    return {name: len(build_suite(entity).expectations) for name, entity in dictionary.entities.items()}


def _expectation(rule: Rule) -> Expectation:
    from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull

    said: dict[str, Any] = {
        "meta": {"rule": rule.id},
        "description": f"{rule.id}: {rule.text}" if rule.kind == "range" else f"{rule.id}: no row where {rule.text}",
        "notes": f"Level {rule.level}, severity {rule.severity}. Source: {rule.source}",
    }
    if not is_built_in(rule):
        return ExpectColumnValuesToBeInSet(column=helper_column(rule), value_set=[True], **said)
    if rule.kind == "not_null":
        return ExpectColumnValuesToNotBeNull(column=str(rule.column), **said)
    return ExpectColumnValuesToBeBetween(
        column=str(rule.column), min_value=rule.minimum, max_value=rule.maximum, **said
    )


class Undetermined(Exception):
    """A rule cannot be judged; the text says why and names no row."""


def holds(rule: Rule, frames: Frames, today: date) -> pl.Expr:
    """The rule's answer per row of its table: true, false, or null where it does not apply. Not for rules of SQL.

    Raises
    ------
    Undetermined
        The rule needs a table that was not given.
    """
    answer = _answer(rule, frames, today)
    for column, values in rule.unless.items():
        answer = pl.when(pl.col(column).is_in(values).fill_null(False)).then(None).otherwise(answer)
    return answer.alias(helper_column(rule))


def _answer(rule: Rule, frames: Frames, today: date) -> pl.Expr:
    column, other = pl.col(str(rule.column)), pl.col(str(rule.other))
    match rule.kind:
        case "not_null":
            return column.is_not_null()
        case "range":
            return _in_range(rule, column)
        case "not_future":
            return pl.max_horizontal(rule.columns) <= today
        case "ordered":
            return _in_order(column, other, rule.strict)
        case "together":
            return column.is_null() == other.is_null()
        case "unique":
            return _is_first(rule.columns)
        case "exists":
            return column.is_in(_subjects(str(rule.reference), frames).implode())
    raise ValueError(f"{rule.id} is SQL and is judged in qa.across")


def _in_range(rule: Rule, column: pl.Expr) -> pl.Expr:
    answer: pl.Expr = pl.when(column.is_not_null()).then(True)
    if rule.minimum is not None:
        answer = answer & (column >= rule.minimum)
    if rule.maximum is not None:
        answer = answer & (column <= rule.maximum)
    if rule.step is not None:
        steps = (column - (rule.minimum or 0)) / rule.step
        answer = answer & ((steps - steps.round()).abs() <= STEP_TOLERANCE * (1 + steps.abs()))
    for value in rule.excluded:
        answer = answer & (column != value)
    return answer


def _in_order(first: pl.Expr, second: pl.Expr, is_strict: bool) -> pl.Expr:
    """`first` <= `second`, at the precision of the less precise: readers make a year its first of January, a month its
    first day. Within one such year or month the order is not known, so it is no fault."""
    year_only = _is_new_year(first) | _is_new_year(second)
    month_only = (first.dt.day() == 1) | (second.dt.day() == 1)
    by_year = first.dt.year() <= second.dt.year()
    by_month = first.dt.truncate("1mo") <= second.dt.truncate("1mo")
    by_day = first < second if is_strict else first <= second
    return pl.when(year_only).then(by_year).when(month_only).then(by_month).otherwise(by_day)


def _is_new_year(day: pl.Expr) -> pl.Expr:
    return (day.dt.month() == 1) & (day.dt.day() == 1)


def _is_first(columns: list[str]) -> pl.Expr:
    """The first row of a key within its delivery stays; those after it break the rule. A key with a gap is no key."""
    is_whole = pl.all_horizontal(pl.col(name).is_not_null() for name in columns)
    return pl.when(is_whole).then(pl.struct("delivery_key", *columns).is_first_distinct())


def _subjects(table: str, frames: Frames) -> pl.Series:
    if table not in frames:
        raise Undetermined(f"no {table} table was given to compare with")
    return frames[table]["subject_key"].drop_nulls().unique()
