"""Every rule of the dictionary finds the row that breaks it, and only that rule does."""

from __future__ import annotations

import polars as pl
import pytest

from qa.expectations import suite_sizes
from qa.model import Finding
from qa.variables import validate_frames
from tests.unit.qa.frames import SITE, base
from tests.unit.qa.variables.mutations import BROKEN, TODAY, frames_of, mutations, sound_person
from warehouse.dictionary import load_dictionary

RULES = load_dictionary().rules
MUTATIONS = mutations()
Outcome = tuple[dict[str, list[Finding]], pl.DataFrame, pl.DataFrame, dict[str, tuple[str, int]]]


def _subject(number: int) -> str:
    return f"sbj_{number:04}"


@pytest.fixture(scope="module")
def judged() -> Outcome:
    """(findings by subject, refused rows, results, broken row of each subject) of a site with every fault once."""
    people, broken = {}, {}
    for number, mutation in enumerate(MUTATIONS):
        person = sound_person()
        index = mutation.change(person)
        people[_subject(number)] = person
        broken[_subject(number)] = BROKEN.get(mutation.rule.id, (mutation.entity, index))
    results, refused, findings = validate_frames(frames_of(people), SITE, today=TODAY)
    by_subject: dict[str, list[Finding]] = {}
    for finding in findings:
        by_subject.setdefault(str(finding.subject_key), []).append(finding)
    return by_subject, refused, results, broken


def test_a_site_without_fault_has_no_finding() -> None:
    results, refused, findings = validate_frames(base(), SITE, today=TODAY)
    assert findings == []
    assert refused.is_empty()
    assert set(results["status"]) == {"pass"}
    assert set(results["rule_id"]) == {rule.id for _, rule in RULES}


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=[f"{m.rule.id} {m.what}" for m in MUTATIONS])
def test_the_broken_row_is_found_by_its_rule_alone(number: int, judged: Outcome) -> None:
    by_subject, refused, _, broken = judged
    subject, mutation = _subject(number), MUTATIONS[number]
    entity, index = broken[subject]
    key = f"{subject}-{entity}-{index}"
    if mutation.rule.kind == "not_null" and mutation.rule.column == "subject_key":
        pytest.skip("a row without a subject belongs to nobody")
    assert [(f.rule_id, f.entity_key, f.severity) for f in by_subject.get(subject, [])] == [
        (mutation.rule.id, key, mutation.rule.severity)
    ]
    is_refused = key in set(refused["row_key"])
    assert is_refused == (mutation.rule.severity == "error")


def test_every_rule_has_a_mutation() -> None:
    mutated = {mutation.rule.id for mutation in MUTATIONS}
    left = {rule.id for _, rule in RULES} - mutated
    of_the_site = {rule.id for _, rule in RULES if rule.is_of_the_site}
    strangers = {rule.id for _, rule in RULES if rule.kind == "exists" and rule.reference == "patient"}
    assert left == of_the_site | strangers
    assert of_the_site == {"R06", "R21a", "R21b"}


def test_rows_of_a_stranger_break_the_rule_of_their_table() -> None:
    person = sound_person()
    person["patient"].clear()
    _, _, findings = validate_frames(frames_of({"sbj_0000": sound_person(), "sbj_0001": person}), SITE, today=TODAY)
    expected = {rule.id for _, rule in RULES if rule.kind == "exists" and rule.reference == "patient"}
    assert {finding.rule_id for finding in findings} == expected
    assert {finding.subject_key for finding in findings} == {"sbj_0001"}


@pytest.mark.parametrize("rule_id", ["R06", "R21a", "R21b"])
def test_a_rule_about_the_site_is_one_finding_above_its_threshold_and_none_below(rule_id: str) -> None:
    spoil = {
        "R06": lambda p: (
            p["patient"][0].update(onset_date=p["patient"][0]["diagnosis_date"].replace(day=15))
            or p["patient"][0].update(diagnosis_date=p["patient"][0]["onset_date"])
        ),
        "R21a": lambda p: (
            [visit.update(visit_date=visit["visit_date"].replace(year=2017)) for visit in p["visit"][:1]]
            and p["visit"].pop()
        ),
        "R21b": lambda p: p["visit"][0].update(edss=None),
    }[rule_id]
    rule = next(rule for _, rule in RULES if rule.id == rule_id)
    for spoilt, is_found in ((int(rule.threshold_pct / 10), False), (int(rule.threshold_pct / 10) + 1, True)):
        people = {_subject(number): sound_person() for number in range(10)}
        for subject in list(people)[:spoilt]:
            spoil(people[subject])
        given = {name: table for name, table in frames_of(people).items() if name in ("patient", "visit")}
        results, refused, findings = validate_frames(given, SITE, today=TODAY)
        mine = [finding for finding in findings if finding.rule_id == rule_id]
        assert len(mine) == int(is_found)
        assert {(f.entity_kind, f.entity_key) for f in mine} <= {("site", SITE)}
        row = results.filter(pl.col("rule_id") == rule_id).row(0, named=True)
        assert (row["status"], row["violated_count"]) == ("fail" if is_found else "pass", spoilt)
        assert refused.is_empty()


def test_great_expectations_holds_as_many_expectations_as_the_dictionary_has_rules() -> None:
    assert sum(suite_sizes().values()) == len(RULES)


def test_every_number_of_the_catalogue_is_a_rule_or_says_where_it_is_used() -> None:
    dictionary = load_dictionary()
    told = {rule.id for _, rule in dictionary.rules} | set(dictionary.outcome_rules)
    assert [n for n in range(1, 23) if not any(name == f"R{n:02}" or name[:3] == f"R{n:02}" for name in told)] == []
