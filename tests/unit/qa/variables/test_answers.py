"""What validation says where it cannot judge, and over several deliveries."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from qa.expectations import Undetermined, build_suite, holds, quiet_context
from qa.variables import validate_frames
from tests.unit.qa.frames import ROWS, SITE, base, frame
from warehouse.dictionary import Entity, Rule, Variable, load_dictionary


def test_a_column_of_the_wrong_type_leaves_its_rules_undetermined_and_the_others_decided() -> None:
    frames = base()
    frames["visit"] = frames["visit"].with_columns(pl.col("edss").cast(pl.String))
    results, _, findings = validate_frames(frames, SITE)
    row = results.filter(pl.col("rule_id") == "R01").row(0, named=True)
    assert row["status"] == "undetermined"
    assert "edss holds String" in row["reason"]
    assert row["violated_count"] is None
    assert findings == []
    assert set(results.filter(pl.col("rule_id") != "R01")["status"]) == {"pass"}


def test_a_column_that_is_absent_leaves_its_rules_undetermined() -> None:
    frames = base()
    frames["patient"] = frames["patient"].drop("sex", "onset_date")
    results, _, findings = validate_frames(frames, SITE)
    undetermined = set(results.filter(pl.col("status") == "undetermined")["rule_id"])
    assert undetermined == {"REQ_patient_sex", "R05a", "R05b", "R05c"}
    assert findings == []


def test_a_table_that_was_not_given_is_undetermined_and_an_empty_one_breaks_what_depends_on_it() -> None:
    frames = base()
    del frames["consent"]
    results, _, findings = validate_frames(frames, SITE)
    by_rule = {row["rule_id"]: row for row in results.iter_rows(named=True)}
    assert by_rule["CONSENT_MISSING"]["status"] == "undetermined"
    assert by_rule["KEY_consent"]["reason"] == "the table was not given"
    assert findings == []

    results, _, findings = validate_frames(base() | {"consent": frame("consent", [])}, SITE)
    assert [finding.rule_id for finding in findings] == ["CONSENT_MISSING"] * 3
    assert results.filter(pl.col("rule_id") == "KEY_consent")["denominator_count"].item() == 0


def test_a_row_that_a_later_delivery_corrects_stays_refused_but_is_no_finding() -> None:
    rows = [dict(row) for row in ROWS["visit"]]
    rows[1]["edss"] = 11.0
    first, second = frame("visit", rows), frame("visit", ROWS["visit"], "dlv_0000000000000002")
    results, refused, findings = validate_frames(base() | {"visit": pl.concat([first, second])}, SITE)
    assert findings == []
    assert refused["row_key"].to_list() == ["01-visit-3"]
    assert results.filter(pl.col("rule_id") == "R01")["status"].item() == "pass"
    _, _, findings = validate_frames(base() | {"visit": pl.concat([second, first])}, SITE)
    assert [finding.rule_id for finding in findings] == ["R01"]


def test_a_patient_of_an_earlier_delivery_is_known_to_a_later_one() -> None:
    later = frame("visit", ROWS["visit"], "dlv_0000000000000002")
    _, _, findings = validate_frames(base() | {"visit": later}, SITE)
    assert findings == []


def test_the_same_relapse_in_two_deliveries_is_not_two_relapses_in_a_month() -> None:
    again = frame("relapse", ROWS["relapse"], "dlv_0000000000000002")
    _, _, findings = validate_frames(base() | {"relapse": pl.concat([base()["relapse"], again])}, SITE)
    assert findings == []


def test_a_finding_speaks_in_the_terms_of_the_site() -> None:
    rows = [dict(row) for row in ROWS["visit"]]
    rows[2]["edss"] = 0.5
    _, _, (finding,) = validate_frames(base() | {"visit": frame("visit", rows)}, SITE)
    assert finding.where_found == "visit table, row 4 of file 1"
    assert "from 0 to 10 in steps of 0.5, never 0.5" in finding.message
    assert (finding.entity_kind, finding.subject_key) == ("row", "sbj_2")
    assert "sbj_" not in finding.message + finding.action + finding.where_found


def test_two_rules_that_serialise_alike_are_two_expectations() -> None:
    quiet_context()
    twin = {"kind": "not_null", "severity": "error", "quality_class": "completeness", "column": "visit_date"}
    words = {"text": "x", "action": "y", "source": "network"}
    entity = Entity(
        name="twin",
        description="Two rules alike.",
        key=[],
        variables=[
            Variable(
                name="visit_date", type="date", definition="Date.", source="network", disclosure="quasi", tier="none"
            )
        ],
        rules=[Rule(id=name, **twin, **words) for name in ("A", "B")],
    )
    assert len(build_suite(entity).expectations) == 2


def test_a_date_before_its_reference_breaks_the_rule(tmp_path: Path) -> None:
    (tmp_path / "dmt_approval.csv").write_text("code,date\nocrelizumab,2017-03-28\n", encoding="utf-8")
    rule = Rule(
        id="R20",
        kind="in_reference",
        severity="warning",
        quality_class="accuracy",
        text="x",
        action="y",
        source="network",
        column="start_date",
        other="dmt",
        reference="dmt_approval",
    )
    rows = [
        {"subject_key": "sbj_1", "dmt": "ocrelizumab", "start_date": date(2017, 3, 27)},
        {"subject_key": "sbj_1", "dmt": "ocrelizumab", "start_date": date(2017, 3, 28)},
        {"subject_key": "sbj_1", "dmt": "other", "start_date": date(2000, 1, 1)},
        {"subject_key": "sbj_1", "dmt": "ocrelizumab", "start_date": None},
    ]
    table = frame("treatment", rows)
    assert holds(rule, table, {}, tmp_path).to_list() == [False, True, None, None]
    with pytest.raises(Undetermined, match="no reference table 'dmt_approval'"):
        holds(rule, table, {}, tmp_path / "elsewhere")


def test_the_dictionary_excuses_ris_and_healthy_controls_from_the_order_of_onset_and_diagnosis() -> None:
    rule = next(rule for _, rule in load_dictionary().rules if rule.id == "R05b")
    rows = [dict(row) for row in ROWS["patient"]]
    for row, course in zip(rows, ("RIS", "RRMS", None), strict=True):
        row |= {"onset_date": date(2012, 1, 1), "disease_course": course}
    assert holds(rule, frame("patient", rows), {}).to_list() == [None, False, False]
