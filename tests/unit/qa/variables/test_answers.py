"""What validation says where it cannot judge, and over several deliveries."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from qa import across
from qa.expectations import Undetermined, build_suite, holds, quiet_context
from qa.variables import by_rule, validate_frames
from tests.unit.qa.frames import ROWS, SITE, base, frame
from warehouse.dictionary import Entity, Rule, Variable, load_dictionary

TODAY = date(2026, 1, 15)
GIVEN = ("patient", "consent", "visit", "relapse")


def few() -> dict[str, pl.DataFrame]:
    """The tables that these tests are about; one that is not given costs nothing."""
    return {name: table for name, table in base().items() if name in GIVEN}


def undetermined_rules(results: pl.DataFrame) -> set[str]:
    """Rules over the tables given that could not be judged."""
    return set(results.filter((pl.col("status") == "undetermined") & pl.col("entity").is_in(GIVEN))["rule_id"])


def test_a_column_of_the_wrong_type_leaves_its_rules_undetermined_and_the_others_decided() -> None:
    frames = few()
    frames["visit"] = frames["visit"].with_columns(pl.col("edss").cast(pl.String))
    results, _, findings = validate_frames(frames, SITE)
    row = results.filter(pl.col("rule_id") == "R01").row(0, named=True)
    assert row["status"] == "undetermined"
    assert "edss holds String" in row["reason"]
    assert row["violated_count"] is None
    assert findings == []
    assert undetermined_rules(results) == {"R01", "R03", "R04a", "R04b", "R11"}


def test_a_column_that_is_absent_leaves_its_rules_undetermined() -> None:
    frames = few()
    frames["patient"] = frames["patient"].drop("sex", "onset_date")
    results, _, findings = validate_frames(frames, SITE)
    assert undetermined_rules(results) == {"REQ_patient_sex", "R05_future_patient", "R05a", "R05b", "R05c", "R06"}
    assert findings == []


def test_a_table_that_was_not_given_is_undetermined_and_an_empty_one_breaks_what_depends_on_it() -> None:
    frames = few()
    del frames["consent"]
    results, _, findings = validate_frames(frames, SITE)
    by_rule = {row["rule_id"]: row for row in results.iter_rows(named=True)}
    assert by_rule["CONSENT_MISSING"]["status"] == "undetermined"
    assert by_rule["KEY_consent"]["reason"] == "the table was not given"
    assert findings == []

    results, _, findings = validate_frames(few() | {"consent": frame("consent", [])}, SITE)
    assert [finding.rule_id for finding in findings] == ["CONSENT_MISSING"] * 3
    assert results.filter(pl.col("rule_id") == "KEY_consent")["denominator_count"].item() == 0


def test_a_row_that_a_later_delivery_corrects_stays_refused_but_is_no_finding() -> None:
    rows = [dict(row) for row in ROWS["visit"]]
    rows[1]["edss"] = 11.0
    first, second = frame("visit", rows), frame("visit", ROWS["visit"], "dlv_0000000000000002")
    results, refused, findings = validate_frames(few() | {"visit": pl.concat([first, second])}, SITE)
    assert findings == []
    assert refused["row_key"].to_list() == ["01-visit-3"]
    assert by_rule(results).filter(pl.col("rule_id") == "R01")["status"].item() == "pass"
    _, _, findings = validate_frames(few() | {"visit": pl.concat([second, first])}, SITE)
    assert [finding.rule_id for finding in findings] == ["R01"]


def test_a_patient_of_an_earlier_delivery_is_known_to_a_later_one() -> None:
    later = frame("visit", ROWS["visit"], "dlv_0000000000000002")
    _, _, findings = validate_frames(few() | {"visit": later}, SITE)
    assert findings == []


def test_the_same_relapse_in_two_deliveries_is_not_two_relapses_in_a_month() -> None:
    again = frame("relapse", ROWS["relapse"], "dlv_0000000000000002")
    _, _, findings = validate_frames(few() | {"relapse": pl.concat([few()["relapse"], again])}, SITE)
    assert findings == []


def test_a_finding_speaks_in_the_terms_of_the_site() -> None:
    rows = [dict(row) for row in ROWS["visit"]]
    rows[2]["edss"] = 0.5
    _, _, (finding,) = validate_frames(few() | {"visit": frame("visit", rows)}, SITE)
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
    assert len(build_suite(entity).expectations) == 3  # and that no date is to come


def test_a_course_before_the_first_approval_breaks_the_rule_at_the_precision_of_the_approval() -> None:
    rows = [
        {"subject_key": "sbj_1", "dmt": "natalizumab", "start_date": date(2004, 11, 22)},
        {"subject_key": "sbj_1", "dmt": "natalizumab", "start_date": date(2004, 11, 23)},
        {"subject_key": "sbj_2", "dmt": "ocrelizumab", "start_date": date(2016, 12, 31)},
        {"subject_key": "sbj_2", "dmt": "ocrelizumab", "start_date": date(2017, 2, 2)},
        {"subject_key": "sbj_3", "dmt": "rituximab", "start_date": date(1999, 1, 2)},
    ]
    table = frame("treatment", rows)
    _, rule = next((entity, rule) for entity, rule in load_dictionary().rules if rule.id == "R20")
    with across.tables({"treatment": table}, TODAY) as connection:
        answer = across.query_answer(connection, rule, table, {"treatment": table})
    assert answer.to_list() == [False, True, False, True, None]


def test_a_query_over_a_table_that_was_not_given_is_undetermined() -> None:
    table = few()["visit"]
    rule = next(rule for _, rule in load_dictionary().rules if rule.id == "R05c")
    with (
        across.tables({"visit": table}, TODAY) as connection,
        pytest.raises(Undetermined, match="no patient table was given"),
    ):
        across.query_answer(connection, rule, table, {"visit": table})


@pytest.mark.parametrize(
    ("systems", "edss"),
    [
        ((1, 2, 1, 3, 1, 4, 2, 1), 4.0),  # the calculator's own example
        ((0, 0, 0, 0, 0, 0, 0, 0), 0.0),
        ((1, 0, 0, 0, 0, 0, 0, 0), 1.0),
        ((1, 1, 0, 0, 0, 0, 0, 0), 1.5),
        ((0, 0, 2, 0, 0, 0, 0, 0), 2.0),
        ((0, 0, 3, 2, 2, 2, 0, 0), 4.0),
        ((0, 0, 3, 0, 0, 0, 0, 0), 3.0),
        ((0, 0, 4, 3, 3, 3, 0, 0), 5.0),
        ((6, 0, 0, 0, 0, 0, 0, 0), 4.0),  # a visual 6 counts as 4
        ((0, 0, 1, 0, 0, 0, 0, 2), 4.5),
        ((0, 0, 1, 0, 0, 0, 0, 3), 5.0),
        ((0, 0, 1, 0, 0, 0, 0, 8), 6.5),
        ((0, 0, 1, 0, 0, 0, 0, 16), 10.0),
        ((0, 0, 1, 0, 0, 0, 0, None), None),
    ],
)
def test_edss_follows_from_the_functional_systems(systems: tuple[int | None, ...], edss: float | None) -> None:
    with across.tables({}, TODAY) as connection:
        answer = connection.execute("select edss_of_systems(?, ?, ?, ?, ?, ?, ?, ?)", list(systems)).fetchone()
    assert answer == (edss,)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ("CIS", "RRMS", True), ("RRMS", "SPMS", True), ("CIS", "PPMS", True), ("RIS", "PPMS", True),
        ("SPMS", "RRMS", False), ("RRMS", "CIS", False), ("PPMS", "SPMS", False), ("PPMS", "RRMS", False),
        ("RRMS", "RRMS", True), ("RRMS", "NMOSD", None), (None, "RRMS", None),
    ],
)  # fmt: skip
def test_which_course_may_follow_which(before: str | None, after: str, may: bool | None) -> None:
    with across.tables({}, TODAY) as connection:
        assert connection.execute("select course_may_follow(?, ?)", [before, after]).fetchone() == (may,)


@pytest.mark.parametrize(
    ("onset", "diagnosis", "answer"),
    [
        (date(2012, 6, 4), date(2012, 1, 1), True),  # the diagnosis is known to the year only
        (date(2012, 6, 4), date(2012, 6, 1), True),  # to the month only
        (date(2012, 6, 4), date(2012, 6, 3), False),
        (date(2013, 1, 1), date(2012, 12, 30), False),
        (date(2012, 7, 4), date(2012, 6, 1), False),
    ],
)
def test_dates_are_compared_at_their_precision(onset: date, diagnosis: date, answer: bool) -> None:
    rule = next(rule for _, rule in load_dictionary().rules if rule.id == "R05b")
    rows = [dict(ROWS["patient"][0]) | {"onset_date": onset, "diagnosis_date": diagnosis}]
    assert frame("patient", rows).select(holds(rule, {}, TODAY)).to_series().to_list() == [answer]
    with across.tables({}, TODAY) as connection:
        assert connection.execute("select not_before(?, ?)", [diagnosis, onset]).fetchone() == (answer,)


def test_results_are_kept_per_delivery_over_the_rows_in_force() -> None:
    first = frame("visit", ROWS["visit"])
    rows = [dict(row) for row in ROWS["visit"][:2]]
    rows[1]["edss"] = 11.0
    second = frame("visit", rows, "dlv_0000000000000002")
    results, _, _ = validate_frames(few() | {"visit": pl.concat([first, second])}, SITE, today=TODAY)
    of_edss = results.filter(pl.col("rule_id") == "R01").select("delivery_key", "denominator_count", "violated_count")
    assert of_edss.rows() == [("dlv_0000000000000001", 4, 0), ("dlv_0000000000000002", 2, 1)]
    assert by_rule(results).filter(pl.col("rule_id") == "R01").select("status", "violated_count").rows() == [
        ("fail", 1)
    ]


def test_a_wrong_value_is_told_once_and_not_by_every_rule_that_looks_at_it() -> None:
    rows = [dict(row) for row in ROWS["visit"]]
    rows[0]["fs_ambulation"] = 17  # would also make edss at least 5
    _, _, findings = validate_frames({"visit": frame("visit", rows)}, SITE, today=TODAY)
    assert [finding.rule_id for finding in findings] == ["R02_ambulation"]


def test_the_dictionary_excuses_ris_and_healthy_controls_from_the_order_of_onset_and_diagnosis() -> None:
    rule = next(rule for _, rule in load_dictionary().rules if rule.id == "R05b")
    rows = [dict(row) for row in ROWS["patient"]]
    for row, course in zip(rows, ("RIS", "RRMS", None), strict=True):
        row |= {"onset_date": date(2012, 2, 3), "disease_course": course}
    assert frame("patient", rows).select(holds(rule, {}, TODAY)).to_series().to_list() == [None, False, False]
