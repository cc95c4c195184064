"""From the dictionary's rules to Great Expectations suites, one expectation per rule.

Here: what each kind of rule means on a frame, and the expectation that judges it. Where Great Expectations has no
built-in, a helper column holds the answer per row (true, false, or null where the rule does not apply) and the
expectation wants it true, so that row keys come back in one way. Not here: running them (`qa.variables`).
"""

from __future__ import annotations

import csv
import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse.dictionary import FOLDER, Dictionary, Entity, Rule, load_dictionary
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
    return rule.kind in ("not_null", "ordered")


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
    from great_expectations.expectations.core.expect_column_pair_values_a_to_be_greater_than_b import (
        ExpectColumnPairValuesAToBeGreaterThanB,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull

    said: dict[str, Any] = {
        "meta": {"rule": rule.id},
        "description": f"{rule.id}: {rule.text}" if rule.kind == "range" else f"{rule.id}: no row where {rule.text}",
        "notes": f"Severity {rule.severity}. Source: {rule.source}",
    }
    if not is_built_in(rule):
        return ExpectColumnValuesToBeInSet(column=helper_column(rule), value_set=[True], **said)
    if rule.kind == "not_null":
        return ExpectColumnValuesToNotBeNull(column=str(rule.column), **said)
    if rule.kind == "range":
        return ExpectColumnValuesToBeBetween(
            column=str(rule.column), min_value=rule.minimum, max_value=rule.maximum, **said
        )
    return ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=str(rule.other),
        column_B=str(rule.column),
        or_equal=not rule.strict,
        ignore_row_if="either_value_is_missing",
        **said,
    )


def columns_of(rule: Rule) -> list[str]:
    """Columns of the rule's own table that it looks at."""
    return [c for c in dict.fromkeys([rule.column, rule.other, *rule.columns, *rule.unless]) if c]


def joined(entity: Entity, frames: Frames) -> pl.DataFrame:
    """The table with the facts of other tables that its rules need, by subject; a subject's last row tells the fact.

    A join whose other table was not given adds no column, so that the rules over it come out undetermined.
    """
    frame = frames[entity.name]
    for join in entity.joins:
        other = frames.get(join.entity)
        if other is None or not {"subject_key", join.column} <= set(other.columns):
            continue
        fact = other.select("subject_key", pl.col(join.column).alias(join.as_))
        fact = fact.filter(pl.col("subject_key").is_not_null()).unique("subject_key", keep="last", maintain_order=True)
        frame = frame.join(fact, on="subject_key", how="left", maintain_order="left")
    return frame


class Undetermined(Exception):
    """A rule cannot be judged; the text says why and names no row."""


def holds(rule: Rule, frame: pl.DataFrame, frames: Frames, references: Path = FOLDER / "reference") -> pl.Series:
    """The rule's answer per row of a joined frame: true, false, or null where it does not apply.

    Raises
    ------
    Undetermined
        The rule needs a table that was not given.
    """
    answer = frame.select(_answer(rule, frame, frames, references).alias("holds"))["holds"]
    for column, values in rule.unless.items():
        excused = frame[column].is_in(values).fill_null(False)
        answer = pl.select(pl.when(excused).then(None).otherwise(answer))[:, 0]
    return answer.alias(helper_column(rule))


def _answer(rule: Rule, frame: pl.DataFrame, frames: Frames, references: Path) -> pl.Expr:
    column, other = pl.col(str(rule.column)), pl.col(str(rule.other))
    match rule.kind:
        case "not_null":
            return column.is_not_null()
        case "range":
            return _in_range(rule, column)
        case "ordered":
            return column < other if rule.strict else column <= other
        case "together":
            return column.is_null() == other.is_null()
        case "unique":
            return _is_first(rule, frame)
        case "minimum_gap":
            return _is_apart(rule, frame)
        case "exists":
            return column.is_in(_subjects(rule, frames).implode())
        case "in_reference":
            earliest = _reference(rule, references)
            return column >= other.replace_strict(earliest, default=None, return_dtype=pl.Date)


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


def _is_first(rule: Rule, frame: pl.DataFrame) -> pl.Expr:
    """The first row of a key within its delivery stays; those after it break the rule. A key with a gap is no key."""
    key = [*(["delivery_key"] if "delivery_key" in frame.columns else []), *rule.columns]
    is_whole = pl.all_horizontal(pl.col(name).is_not_null() for name in rule.columns)
    order = [name for name in ("file_number", "source_row") if name in frame.columns]
    rank = pl.int_range(pl.len()).over(key, order_by=order) if order else pl.int_range(pl.len()).over(key)
    return pl.when(is_whole).then(rank == 0).otherwise(None)


def _is_apart(rule: Rule, frame: pl.DataFrame) -> pl.Expr:
    """Days to the subject's last earlier date. An equal date is the same event sent again, which `unique` judges."""
    name = str(rule.column)
    dates = frame.select("subject_key", name).drop_nulls().unique().sort("subject_key", name)
    dates = dates.with_columns((pl.col(name) - pl.col(name).shift(1).over("subject_key")).dt.total_days().alias("gap"))
    gap = frame.join(dates, on=["subject_key", name], how="left", maintain_order="left")["gap"]
    return pl.when(pl.col(name).is_null()).then(None).otherwise(pl.lit(gap).fill_null(rule.value) >= rule.value)


def _subjects(rule: Rule, frames: Frames) -> pl.Series:
    table = frames.get(str(rule.reference))
    if table is None:
        raise Undetermined(f"no {rule.reference} table was given to compare with")
    return table["subject_key"].drop_nulls().unique()


def _reference(rule: Rule, folder: Path) -> dict[str, date]:
    """`<reference>.csv` beside the dictionary: columns `code` and `date` (ISO, empty where there is none)."""
    path = folder / f"{rule.reference}.csv"
    if not path.is_file():
        raise Undetermined(f"the dictionary has no reference table {rule.reference!r}")
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["code"]: date.fromisoformat(row["date"]) for row in csv.DictReader(handle) if row["date"]}
