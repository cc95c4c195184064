"""Registry variables against the dictionary, per site, with Great Expectations.

Here: the rows of a site's deliveries, and what becomes of the rules' answers: rule results, refused rows, findings. Not
here: the answers (`qa.judge`), a finding's life (`qa.findings`), pages about them (`qa.data_docs`). Frames are
pseudonymous before they come here. A rule that cannot be evaluated is undetermined, never a finding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl

from qa.expectations import Frames
from qa.judge import PLACE, Judged, RuleAnswer, judge_tables
from qa.model import Finding
from warehouse import lake
from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.home import Home
from warehouse.tables import schema_of

log = logging.getLogger(__name__)

SAMPLE_ROWS = 20
"""How many keys of broken rows a rule result carries; the findings carry all."""


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
