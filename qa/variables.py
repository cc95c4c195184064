"""Registry variables against the dictionary, per site, with Great Expectations.

Here: judging the rows of a site's deliveries, and what becomes of the answer: rule results, refused rows, findings,
Data Docs. Not here: what a rule means (`warehouse.dictionary`, `qa.expectations`) or a finding's life (`qa.findings`).
Frames are pseudonymous before they come here. A rule that cannot be evaluated is undetermined, never a finding.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from qa.expectations import (
    Frames,
    Undetermined,
    build_suite,
    columns_of,
    holds,
    is_built_in,
    joined,
    quiet_context,
)
from qa.model import Finding
from warehouse import lake
from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.home import Home
from warehouse.tables import schema_of

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

log = logging.getLogger(__name__)

SAMPLE_ROWS = 20
"""How many keys of broken rows a rule result carries; the findings carry all."""


@dataclass
class RuleAnswer:
    """What one rule says about one table of one site."""

    rule: Rule
    entity: str
    denominator: int | None = None
    """Rows the rule looked at; None where it could not look."""
    row_keys: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def status(self) -> str:
        if self.denominator is None:
            return "undetermined"
        return "fail" if self.row_keys else "pass"


def validate_site(home: Home, site_code: str, delivery_keys: list[str]) -> list[Finding]:
    """Judge the registry rows of a site's deliveries; replaces the site's rule results and refused rows.

    Parameters
    ----------
    delivery_keys
        Deliveries in the order in which later rows win over earlier ones. A row that a later delivery replaces stays
        refused when it is wrong, but is no finding: the site has already sent a better one.

    Returns
    -------
    list of Finding
        One per rule and row that breaks it.
    """
    dictionary = load_dictionary()
    order = {key: index for index, key in enumerate(delivery_keys)}
    frames: Frames = {}
    for name in dictionary.entities:
        frame = lake.read_table(home, f"raw_registry__{name}", site_code)
        frame = frame.filter(pl.col("delivery_key").is_in(delivery_keys))
        rank = pl.col("delivery_key").replace_strict(order, default=None, return_dtype=pl.Int64)
        frames[name] = frame.sort(rank, "file_number", "source_row", maintain_order=True)
    results, refused, findings = validate_frames(frames, site_code)
    lake.write_part(home, "raw_qa__rule_result", results, site_code)
    lake.write_part(home, "raw_qa__refused_row", refused, site_code)
    log.info("%s: %d rules, %d findings in registry rows", site_code, results.height, len(findings))
    return findings


def validate_frames(
    frames: Frames, site_code: str, dictionary: Dictionary | None = None
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
    dictionary = dictionary or load_dictionary()
    answers: list[RuleAnswer] = []
    findings: list[Finding] = []
    refused: list[dict[str, Any]] = []
    context = quiet_context()
    for entity in dictionary.entities.values():
        entity_answers = _judge(entity, frames, context).answers
        rows = _facts(frames.get(entity.name), entity)
        for answer in entity_answers:
            broken = [rows[key] for key in answer.row_keys]
            if answer.rule.severity == "error":
                refused += [_refusal(row, answer, site_code) for row in broken]
            current = [row for row in broken if row["is_current"]]
            findings += [_finding(row, answer, site_code) for row in current]
            answer.row_keys = [row["row_key"] for row in current]
        answers += entity_answers
    results = pl.DataFrame([_result(a, site_code) for a in answers], schema=schema_of("raw_qa__rule_result"))
    return results, pl.DataFrame(refused, schema=schema_of("raw_qa__refused_row")), findings


def decided_rules(home: Home, site_code: str) -> set[str]:
    """Rules that gave an answer for the site: the scope in which a finding not seen again is resolved."""
    results = lake.read_table(home, "raw_qa__rule_result", site_code)
    return set(results.filter(pl.col("status") != "undetermined")["rule_id"])


@dataclass
class _Judgement:
    answers: list[RuleAnswer]
    validation: ExpectationSuiteValidationResult | None = None


def _judge(entity: Entity, frames: Frames, context: EphemeralDataContext) -> _Judgement:
    suite = build_suite(entity)
    rules = {rule.id: rule for rule in entity.all_rules}
    given = frames.get(entity.name)
    if given is None:
        return _Judgement([RuleAnswer(r, entity.name, reason="the table was not given") for r in rules.values()])
    if given.is_empty():
        reason = "no rows of this table were delivered"
        return _Judgement([RuleAnswer(r, entity.name, denominator=0, reason=reason) for r in rules.values()])
    frame = joined(entity, frames)
    reasons = _wrong_types(entity, frame)
    table = frame
    for rule in rules.values():
        if rule.id in reasons or is_built_in(rule):
            continue
        try:
            table = table.with_columns(holds(rule, frame, frames))
        except Undetermined as error:
            reasons[rule.id] = str(error)
    asset = context.data_sources.add_or_update_pandas(f"registry_{entity.name}").add_dataframe_asset(entity.name)
    batch = asset.add_batch_definition_whole_dataframe("site").get_batch({"dataframe": _pandas(table)})
    validation = batch.validate(
        suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["row_key"]}
    )
    answers = []
    for result in validation.results:
        assert result.expectation_config is not None
        rule = rules.pop(result.expectation_config.meta["rule"])
        answers.append(_answer(rule, entity.name, result, reasons.get(rule.id)))
    answers += [RuleAnswer(rule, entity.name, reason="Great Expectations gave no result") for rule in rules.values()]
    order = [rule.id for rule in entity.all_rules]
    return _Judgement(sorted(answers, key=lambda a: order.index(a.rule.id)), validation)


def _wrong_types(entity: Entity, frame: pl.DataFrame) -> dict[str, str]:
    """Rules that cannot be judged because a column is absent or has another type than the dictionary says."""
    expected: dict[str, Any] = {v.name: v.polars_type for v in entity.stored_variables} | {"subject_key": pl.String}
    reasons = {}
    for rule in entity.all_rules:
        for column in columns_of(rule):
            if column not in frame.columns:
                reasons[rule.id] = f"column {column} is absent"
            elif column in expected and frame.schema[column] not in (expected[column], pl.Null):
                reasons[rule.id] = (
                    f"column {column} holds {frame.schema[column]}, the dictionary says {expected[column]}"
                )
    return reasons


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """The frame as Great Expectations can compare it: nullable types kept, dates as datetime64."""
    import pandas as pd

    made = frame.to_pandas()
    for name, kind in frame.schema.items():
        if kind == pl.Boolean:
            made[name] = pd.array(frame[name].to_list(), dtype="boolean")
        elif kind.is_integer():
            made[name] = pd.array(frame[name].to_list(), dtype="Int64")
        elif kind == pl.Date:
            made[name] = pd.to_datetime(frame[name].cast(pl.Datetime("us")).to_pandas())
    return made


def _answer(rule: Rule, entity: str, result: ExpectationValidationResult, reason: str | None) -> RuleAnswer:
    if reason:
        return RuleAnswer(rule, entity, reason=reason)
    outcome = result.result
    if outcome.get("unexpected_count") is None or outcome.get("element_count") is None:
        # The exception's own text can quote cell values, so only its kind is kept.
        return RuleAnswer(rule, entity, reason="the rule could not be evaluated on these columns")
    keys = sorted({str(item["row_key"]) for item in outcome.get("unexpected_index_list") or []})
    looked_at = int(outcome["element_count"]) - int(outcome.get("missing_count") or 0)
    return RuleAnswer(rule, entity, denominator=looked_at, row_keys=keys)


def _facts(frame: pl.DataFrame | None, entity: Entity) -> dict[str, dict[str, Any]]:
    """What a finding says about each row, by row key; `is_current` where no later delivery replaces the row."""
    if frame is None or frame.is_empty():
        return {}
    key = [name for name in ["subject_key", *entity.key] if name in frame.columns]
    wanted = ["row_key", "subject_key", "delivery_key", "file_number", "source_row"]
    last = pl.col("delivery_key").last().over(key) if "delivery_key" in frame.columns else pl.lit(None)
    is_current = (pl.col("delivery_key") == last).fill_null(True) if "delivery_key" in frame.columns else pl.lit(True)
    facts = frame.select(*[pl.col(c) for c in wanted if c in frame.columns], is_current.alias("is_current"))
    return {row["row_key"]: row for row in facts.iter_rows(named=True)}


def where_row(entity: str, source_row: int | None, file_number: int | None) -> str:
    """A registry row in the site's own terms."""
    where = f"{entity} table"
    if source_row is not None:
        where += f", row {source_row}"
    if file_number is not None:
        where += f" of file {file_number}"
    return where


def _finding(row: dict[str, Any], answer: RuleAnswer, site_code: str) -> Finding:
    return Finding(
        rule_id=answer.rule.id,
        site_code=site_code,
        entity_kind="row",
        entity_key=row["row_key"],
        severity=answer.rule.severity,
        quality_class=answer.rule.quality_class,
        message=answer.rule.text,
        action=answer.rule.action,
        where_found=where_row(answer.entity, row.get("source_row"), row.get("file_number")),
        delivery_key=row.get("delivery_key"),
        subject_key=row.get("subject_key"),
    )


def _refusal(row: dict[str, Any], answer: RuleAnswer, site_code: str) -> dict[str, Any]:
    return {
        "site_code": site_code,
        "delivery_key": row.get("delivery_key"),
        "row_key": row["row_key"],
        "entity": answer.entity,
        "rule_id": answer.rule.id,
    }


def _result(answer: RuleAnswer, site_code: str) -> dict[str, Any]:
    return {
        "site_code": site_code,
        "rule_id": answer.rule.id,
        "entity": answer.entity,
        "severity": answer.rule.severity,
        "status": answer.status,
        "reason": answer.reason,
        "denominator_count": answer.denominator,
        "violated_count": None if answer.denominator is None else len(answer.row_keys),
        "sample_row_keys": answer.row_keys[:SAMPLE_ROWS],
    }


SCRIPTED = re.compile(
    r"<script\b.*?</script>|<footer>.*?</footer>|<img\b[^>]*>|<link\b[^>]*>|<form\b.*?</form>", re.I | re.S
)
"""What needs the script libraries that the page loses, the maker's logo and its newsletter."""
ABOVE = re.compile(r"(?:\.\./)+(?:index|expectations/\w+)\.html")
"""Links to pages of the store, which is not kept."""
OUTSIDE = re.compile(r"""<(?:link|script)\b[^>]*?(?:href|src)\s*=\s*["'](?:https?:)?//[^>]*>(?:\s*</script>)?""", re.I)
ELSEWHERE = re.compile(r"""\b(href|src|action)\s*=\s*(["'])(?:https?:)?//[^"']*\2""", re.I)
ADDRESS = re.compile(r"""(?:https?:)?//(?:[a-z0-9-]+\.)+[a-z]{2,}[^\s"'<>)]*""", re.I)
STYLE = """<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse}
td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}
.hide,.modal,.card.mb-3{display:none}.fas{font-style:normal}
.fa-check-circle::before{content:"\\2713  holds"}.fa-times::before{content:"\\2717  broken"}
.fa-exclamation-triangle::before{content:"? not known"}</style>"""


def build_data_docs(home: Home, site_code: str, delivery_keys: list[str]) -> Path:
    """Great Expectations' own pages about a site, at `lake/docs/<site>/index.html`.

    They hold counts and the dictionary's words: no row key, no cell value, and nothing that a browser fetches from
    elsewhere. Great Expectations' store, which holds both, lies in a temporary folder that is removed.
    """
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    dictionary = load_dictionary()
    frames = {
        name: lake.read_table(home, f"raw_registry__{name}", site_code).filter(
            pl.col("delivery_key").is_in(delivery_keys)
        )
        for name in dictionary.entities
    }
    context = quiet_context()
    view: Any = DefaultJinjaPageView()
    target = home.lake / "docs" / site_code
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{site_code}-") as scratch:
        draft = Path(scratch) / "pages"
        draft.mkdir()
        links = []
        for entity in dictionary.entities.values():
            judgement = _judge(entity, frames, context)
            validation = judgement.validation
            if validation is None:
                links.append(f"<li>{entity.name}: no rows were delivered</li>")
                continue
            unknown = {a.rule.id: a.reason for a in judgement.answers if a.status == "undetermined"}
            for result in validation.results:
                _drop_rows(result, unknown)
            # The markers of a batch hold a fingerprint of the data and the time of the run.
            cast("dict[str, Any]", validation.meta).pop("batch_markers", None)
            document = ValidationResultsPageRenderer().render(validation)
            page = without_outside(view.render(document))
            lake.write_bytes(draft / f"{entity.name}.html", page.encode())
            links.append(f'<li><a href="{entity.name}.html">{entity.name}</a></li>')
        index = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Registry checks of {site_code}</title>'
            f"{STYLE}</head><body><h1>Registry checks of {site_code}</h1><ul>{''.join(links)}</ul></body></html>"
        )
        lake.write_bytes(draft / "index.html", index.encode())
        old = Path(scratch) / "old"
        if target.exists():
            target.rename(old)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    return target / "index.html"


def _drop_rows(result: ExpectationValidationResult, unknown: dict[str, str | None]) -> None:
    """Keep the counts of a result and nothing that was in a cell; a rule that is not known is shown as such."""
    assert result.expectation_config is not None
    reason = unknown.get(result.expectation_config.meta["rule"])
    kept = ("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent")
    result.result = {name: result.result[name] for name in kept if not reason and result.result.get(name) is not None}
    said = f"undetermined: {reason}" if reason else None
    result.exception_info = {
        "raised_exception": bool(reason),
        "exception_message": said,
        "exception_traceback": said,
    }


def without_outside(page: str) -> str:
    """A page without anything a browser would fetch from elsewhere, readable without the style sheets it loses."""
    page = SCRIPTED.sub("", page)
    page = ABOVE.sub("index.html", page)
    page = OUTSIDE.sub("", page)
    page = ELSEWHERE.sub(r"\1=\2#\2", page)
    page = ADDRESS.sub("", page)
    return page.replace("</head>", f"{STYLE}</head>", 1)
