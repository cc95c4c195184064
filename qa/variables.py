"""Registry variables against the dictionary, per site, with Great Expectations.

Here: judging the rows of a site's deliveries, and what becomes of the answer: rule results, refused rows, findings.
Not here: what a rule means (`warehouse.dictionary`, `qa.expectations`, `qa.across`), a finding's life (`qa.findings`),
pages about it (`qa.data_docs`). Frames are pseudonymous before they come here. A rule that cannot be evaluated is
undetermined, never a finding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qa import across
from qa.expectations import Frames, Undetermined, build_suite, helper_column, holds, is_built_in, quiet_context
from qa.model import Finding
from warehouse import lake
from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.home import Home
from warehouse.tables import Schema, schema_of

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

log = logging.getLogger(__name__)

SAMPLE_ROWS = 20
"""How many keys of broken rows a rule result carries; the findings carry all."""
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


def read_frames(home: Home, site_code: str, delivery_keys: list[str]) -> Frames:
    """Every registry table of a site, rows in the order in which later ones win over earlier ones."""
    order = {key: index for index, key in enumerate(delivery_keys)}
    rank = pl.col("delivery_key").replace_strict(order, default=None, return_dtype=pl.Int64)
    frames: Frames = {}
    for name in load_dictionary().entities:
        frame = lake.read_table(home, f"raw_registry__{name}", site_code)
        frame = frame.filter(pl.col("delivery_key").is_in(delivery_keys))
        frames[name] = frame.sort(rank, "file_number", "source_row", maintain_order=True)
    return frames


def validate_site(
    home: Home, site_code: str, delivery_keys: list[str], *, today: date | None = None
) -> tuple[list[Finding], list[Judged]]:
    """Judge the registry rows of a site's deliveries; replaces the site's rule results and refused rows.

    Parameters
    ----------
    delivery_keys
        Deliveries in the order in which later rows win over earlier ones. A row that a later delivery replaces stays
        refused when it is wrong, but is no finding: the site has already sent a better one.
    today
        Day after which dates lie in the future; the present day by default.

    Returns
    -------
    (findings, judged tables)
        One finding per rule and row that breaks it, or per rule where the rule is about the site as a whole.
    """
    judged = judge_tables(read_frames(home, site_code, delivery_keys), today=today)
    results, refused, findings = outcome(judged, site_code)
    lake.write_part(home, "raw_qa__rule_result", results, site_code)
    lake.write_part(home, "raw_qa__refused_row", refused, site_code)
    log.info("%s: %d rules, %d findings in registry rows", site_code, results["rule_id"].n_unique(), len(findings))
    return findings, judged


def validate_frames(
    frames: Frames, site_code: str, dictionary: Dictionary | None = None, today: date | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Judge registry frames; touches no disk.

    Parameters
    ----------
    frames
        Registry table name -> its rows with the columns of `raw_registry__*`, later deliveries last. A table that is
        not given leaves the rules over it undetermined; a table with no rows is a table.

    Returns
    -------
    (rule results, refused rows, findings)
        With the columns of `raw_qa__rule_result` and `raw_qa__refused_row`.
    """
    return outcome(judge_tables(frames, dictionary, today), site_code)


def decided_rules(home: Home, site_code: str) -> set[str]:
    """Rules that gave an answer for the site: the scope in which a finding not seen again is resolved."""
    results = lake.read_table(home, "raw_qa__rule_result", site_code)
    return set(results.filter(pl.col("status") != "undetermined")["rule_id"])


def by_rule(results: pl.DataFrame) -> pl.DataFrame:
    """Rule results of a site summed over its deliveries: one row per rule, in the order of the dictionary."""
    is_broken, is_unknown = (pl.col("status") == "fail").any(), (pl.col("status") == "undetermined").any()
    status = pl.when(is_unknown).then(pl.lit("undetermined")).when(is_broken).then(pl.lit("fail"))
    return results.group_by("rule_id", "entity", "level", "quality_class", "severity", maintain_order=True).agg(
        status.otherwise(pl.lit("pass")).alias("status"),
        pl.col("reason").first(),
        pl.col("denominator_count").sum(),
        pl.col("violated_count").sum(),
        pl.col("sample_row_keys").explode().drop_nulls().head(SAMPLE_ROWS),
    )


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


def outcome(judged: list[Judged], site_code: str) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Rule results, refused rows and findings of judged tables, see `validate_frames`."""
    results: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for table in judged:
        counted = _counted(table)
        for answer in table.answers:
            broken = table.frame[list(answer.broken)].with_columns(table.in_force[list(answer.broken)].alias("current"))
            if answer.rule.severity == "error":
                refused += [_refusal(row, answer.rule, table.entity, site_code) for row in _places(broken)]
            current = broken.filter("current")
            per_delivery = list(_results(answer, table.entity, counted, current, site_code))
            results += per_delivery
            if any(row["status"] == "fail" for row in per_delivery):
                findings += _findings(answer.rule, table.entity, current, per_delivery, site_code)
    return (
        pl.DataFrame(results, schema=schema_of("raw_qa__rule_result")),
        pl.DataFrame(refused, schema=schema_of("raw_qa__refused_row")),
        findings,
    )


def _counted(table: Judged) -> list[dict[str, Any]]:
    """Per delivery: rows in force that each rule looked at, by rule id."""
    if table.frame.is_empty():
        return []
    looked_at = {a.rule.id: a.answers.is_not_null() & table.in_force for a in table.answers if a.answers is not None}
    frame = pl.DataFrame({"delivery_key": table.frame["delivery_key"], **looked_at})
    return frame.group_by("delivery_key", maintain_order=True).agg(pl.all().sum()).to_dicts()


def _results(
    answer: RuleAnswer, entity: Entity, counted: list[dict[str, Any]], current: pl.DataFrame, site_code: str
) -> Iterator[dict[str, Any]]:
    rule = answer.rule
    row: dict[str, Any] = {
        "site_code": site_code,
        "delivery_key": None,
        "rule_id": rule.id,
        "entity": entity.name,
        "level": rule.level,
        "quality_class": rule.quality_class,
        "severity": rule.severity,
        "reason": answer.reason,
        "sample_row_keys": [],
    }
    if answer.reason:
        yield row | {"status": "undetermined", "denominator_count": None, "violated_count": None}
        return
    if not counted:
        reason = "no rows of this table were delivered"
        yield row | {"status": "pass", "reason": reason, "denominator_count": 0, "violated_count": 0}
        return
    total = sum(delivery[rule.id] for delivery in counted)
    is_above = current.height * 100 > rule.threshold_pct * total
    for delivery in counted:
        keys = current.filter(pl.col("delivery_key") == delivery["delivery_key"])["row_key"]
        yield row | {
            "delivery_key": delivery["delivery_key"],
            "status": "fail" if keys.len() and is_above else "pass",
            "denominator_count": delivery[rule.id],
            "violated_count": keys.len(),
            "sample_row_keys": keys.sort().head(SAMPLE_ROWS).to_list(),
        }


def where_row(entity: str, source_row: int | None, file_number: int | None) -> str:
    """A registry row in the site's own terms."""
    where = f"{entity} table"
    if source_row is not None:
        where += f", row {source_row}"
    if file_number is not None:
        where += f" of file {file_number}"
    return where


def _places(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    return rows.select(list(PLACE)).iter_rows(named=True)


def _findings(
    rule: Rule, entity: Entity, broken: pl.DataFrame, results: list[dict[str, Any]], site_code: str
) -> Iterator[Finding]:
    """One finding per broken row; one for the site where the rule is about a share of its rows."""
    text = f"{rule.text} (by {rule.algorithm})" if rule.algorithm else rule.text
    if rule.is_of_the_site:
        total = sum(row["denominator_count"] for row in results)
        yield Finding(
            rule_id=rule.id,
            site_code=site_code,
            entity_kind="site",
            entity_key=site_code,
            severity=rule.severity,
            quality_class=rule.quality_class,
            message=f"{text}: {broken.height} of {total} rows, more than {rule.threshold_pct:g} %",
            action=rule.action,
            where_found=f"{entity.name} table",
        )
        return
    for row in _places(broken):
        yield Finding(
            rule_id=rule.id,
            site_code=site_code,
            entity_kind="row",
            entity_key=row["row_key"],
            severity=rule.severity,
            quality_class=rule.quality_class,
            message=text,
            action=rule.action,
            where_found=where_row(entity.name, row["source_row"], row["file_number"]),
            delivery_key=row["delivery_key"],
            subject_key=row["subject_key"],
        )


def _refusal(row: dict[str, Any], rule: Rule, entity: Entity, site_code: str) -> dict[str, Any]:
    return {
        "site_code": site_code,
        "delivery_key": row["delivery_key"],
        "row_key": row["row_key"],
        "entity": entity.name,
        "rule_id": rule.id,
    }
