"""What every rule says about every registry table of a site.

Here: answering rules in their order (values, rows, tables, then SQL over what is in force), and asking Great
Expectations which rows break them. Not here: what a rule means (`qa.expectations`, `qa.across`), what becomes of an
answer (`qa.variables`). A rule that cannot be evaluated has a reason and no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qa import across
from qa.expectations import Frames, Undetermined, build_suite, helper_column, holds, is_built_in, quiet_context
from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.tables import Schema

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

PLACE: Schema = {
    "row_key": pl.String,
    "subject_key": pl.String,
    "delivery_key": pl.String,
    "file_number": pl.Int32,
    "source_row": pl.Int32,
}
"""What a finding tells of a row."""
ROW = "row_number"
"""Column by which Great Expectations names a broken row: numbers are moved about much quicker than keys."""


@dataclass
class RuleAnswer:
    """What one rule says about one table of one site."""

    rule: Rule
    answers: pl.Series | None = None
    """Per row of the table: true, false, or null where the rule does not apply; None where it could not look."""
    broken: tuple[int, ...] = ()
    """Rows that Great Expectations says break it."""
    reason: str | None = None


@dataclass
class Judged:
    """A registry table of a site, and what every rule says about it."""

    entity: Entity
    frame: pl.DataFrame
    in_force: pl.Series
    """True for rows that no later delivery replaces."""
    answers: list[RuleAnswer]
    validation: ExpectationSuiteValidationResult | None = None


def judge_tables(frames: Frames, dictionary: Dictionary | None = None, today: date | None = None) -> list[Judged]:
    """Every table of the dictionary with every rule's answer, in the dictionary's order."""
    dictionary = dictionary or load_dictionary()
    today = today or datetime.now(UTC).date()
    judged = [_own_rules(entity, frames, today) for entity in dictionary.entities.values()]
    _queries(judged, frames, today)
    context = quiet_context()
    for table in judged:
        if not table.frame.is_empty():
            _ask_great_expectations(table, context)
    return judged


def _own_rules(entity: Entity, frames: Frames, today: date) -> Judged:
    """Answers of the rules that see one table; queries are left open."""
    rules = entity.all_rules
    frame = frames.get(entity.name)
    if frame is None:
        answers = [RuleAnswer(rule, reason="the table was not given") for rule in rules]
        return Judged(entity, pl.DataFrame(schema=PLACE), pl.Series([], dtype=pl.Boolean), answers)
    reasons = _wrong_columns(entity, rules, frame)
    expressions: list[pl.Expr] = []
    for rule in rules:
        if rule.id in reasons or rule.sql:
            continue
        try:
            expressions.append(holds(rule, frames, today))
        except Undetermined as error:
            reasons[rule.id] = str(error)
    found = frame.select(expressions)
    columns = {name: found[name] for name in found.columns}
    whole = _keeps(
        [(r, columns[helper_column(r)]) for r in rules if r.level == "field" and helper_column(r) in columns],
        frame.height,
    )
    written = [rule for rule in rules if rule.kind == "expression" and rule.id not in reasons]
    seen = frame.select(list(dict.fromkeys(name for rule in written for name in rule.names(entity))))
    for rule_id, answer in across.expression_answers(written, seen, today).items():
        if isinstance(answer, Undetermined):
            reasons[rule_id] = str(answer)
        else:
            # A value that is wrong by itself is told once, not by every rule that looks at it as well.
            columns[f"holds_{rule_id}"] = pl.select(pl.when(whole).then(answer)).to_series()
    answers = [RuleAnswer(r, columns.get(helper_column(r)), reason=reasons.get(r.id)) for r in rules]
    return Judged(entity, frame, across.is_in_force(frame, entity), answers)


def _wrong_columns(entity: Entity, rules: list[Rule], frame: pl.DataFrame) -> dict[str, str]:
    """Rules that cannot be judged because a column is absent or has another type than the dictionary says."""
    expected: dict[str, Any] = {v.name: v.polars_type for v in entity.stored_variables} | {"subject_key": pl.String}
    reasons = {}
    for rule in rules:
        for column in rule.names(entity):
            if column not in frame.columns:
                reasons[rule.id] = f"column {column} is absent"
            elif column in expected and frame.schema[column] not in (expected[column], pl.Null):
                reasons[rule.id] = (
                    f"column {column} holds {frame.schema[column]}, the dictionary says {expected[column]}"
                )
    return reasons


def _queries(judged: list[Judged], frames: Frames, today: date) -> None:
    """Answers of the rules over several tables, which see what is in force and breaks no error rule."""
    asked = {t.entity.name for t in judged if any(a.rule.kind == "query" and not a.reason for a in t.answers)}
    asked |= {name for t in judged for a in t.answers for name in a.rule.tables if t.entity.name in asked}
    if not asked:
        return
    sound = {t.entity.name: t.frame.filter(_is_sound(t)) for t in judged if t.entity.name in asked & frames.keys()}
    with across.tables(sound, today) as connection:
        for table in judged:
            for answer in table.answers:
                if answer.rule.kind != "query" or answer.reason:
                    continue
                try:
                    answer.answers = across.query_answer(connection, answer.rule, table.frame, frames)
                except Undetermined as error:
                    answer.reason = str(error)


def _is_sound(table: Judged) -> pl.Series:
    given = [(answer.rule, answer.answers) for answer in table.answers if answer.answers is not None]
    return table.in_force & _keeps(given, table.frame.height)


def _keeps(answers: list[tuple[Rule, pl.Series]], height: int) -> pl.Series:
    """True for rows that break none of the rules of severity error among these."""
    kept = pl.repeat(True, height, dtype=pl.Boolean, eager=True)
    for rule, answer in answers:
        if rule.severity == "error":
            kept = kept & answer.fill_null(True)
    return kept


def _ask_great_expectations(table: Judged, context: EphemeralDataContext) -> None:
    """Let Great Expectations say which rows break each rule."""
    asset = context.data_sources.add_or_update_pandas(f"registry_{table.entity.name}").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("site").get_batch({"dataframe": _as_numbers(table)})
    table.validation = batch.validate(
        build_suite(table.entity),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]},
    )
    by_rule = {answer.rule.id: answer for answer in table.answers}
    for result in table.validation.results:
        assert result.expectation_config is not None
        answer = by_rule.pop(result.expectation_config.meta["rule"])
        if answer.reason:
            continue
        if result.result.get("unexpected_count") is None:
            # The exception's own text can quote cell values, so only its kind is kept.
            answer.reason, answer.answers = across.CANNOT, None
        else:
            answer.broken = tuple(sorted(int(i[ROW]) for i in result.result.get("unexpected_index_list") or []))
    for answer in by_rule.values():
        answer.reason, answer.answers = "Great Expectations gave no result", None


def _as_numbers(table: Judged) -> pd.DataFrame:
    """What the expectations look at, as numbers: Great Expectations copies the whole frame for every rule.

    A rule's answer is 1, 0 or missing; a column that is only asked whether it is given is 1 or missing.
    """
    import pandas as pd

    wanted: dict[str, Any] = {ROW: np.arange(table.frame.height)}
    for answer in table.answers:
        rule = answer.rule
        if answer.reason:
            continue
        if not is_built_in(rule):
            assert answer.answers is not None
            wanted[helper_column(rule)] = _numbers(answer.answers, pl.Float32)
            continue
        column = table.frame[str(rule.column)]
        if column.dtype.is_numeric():
            wanted[column.name] = _numbers(column, pl.Float64)
        else:
            wanted[column.name] = np.where(column.is_null().to_numpy(), np.nan, 1).astype(np.float32)
    return pd.DataFrame(wanted)


def _numbers(series: pl.Series, kind: type[pl.DataType]) -> Any:
    return series.cast(kind).fill_null(float("nan")).to_numpy()
