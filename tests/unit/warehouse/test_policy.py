"""The policy fails closed: what a tier's file does not name is not in it, and what it may not name is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from jinja2 import Environment

from warehouse import catalogue_sql, policy, policy_words
from warehouse.errors import DictionaryError
from warehouse.home import Network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "policy"
    shutil.copytree(policy.FOLDER, target)
    return target


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_undeclared_column_is_in_no_tier(folder: Path) -> None:
    change(
        folder / "marts.yaml",
        "      visit_number:",
        "      secret_note: {type: varchar, description: x}\n      visit_number:",
    )
    loaded = policy.load_policy(folder)
    assert all(
        "secret_note" not in {c.name for t in tables.values() for c in t.columns} for tables in loaded.tiers.values()
    )


def test_column_without_a_class_is_refused_in_every_tier(folder: Path) -> None:
    text = (folder / "marts.yaml").read_text()
    assert "visit_number: {type: integer, class: plain, " in text
    change(folder / "marts.yaml", "visit_number: {type: integer, class: plain, ", "visit_number: {type: integer, ")
    with pytest.raises(DictionaryError, match=r"fct_visit\.visit_number has no disclosure class"):
        policy.load_policy(folder)


def test_variable_of_a_class_that_the_tier_may_not_see_is_left_out(folder: Path) -> None:
    change(folder / "registered.yaml", "classes: [key, plain, quasi, sensitive]", "classes: [key, plain, quasi]")
    change(folder / "registered.yaml", "sensitive: [disease_course]", "sensitive: []")
    change(folder / "registered.yaml", " edss: keep,", "")
    held = {c.name for table in policy.load_policy(folder).tiers["registered"].values() for c in table.columns}
    assert "visit_type" in held
    assert not held & {"edss", "disease_course", "stop_reason", "fs_visual", "relapse_severity"}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "registered.yaml",
            "visit_number: keep, age_band: coarse_age",
            "visit_number: keep, site_code: keep",
            "would tell the site",
        ),
        ("registered.yaml", "session_date: year", "session_date: keep", "exact dates"),
        (
            "registered.yaml",
            "  fct_visit:\n    rows: shared",
            "  fct_visit:\n    rows: all",
            "only subjects who share",
        ),
        (
            "registered.yaml",
            "subject_count: redact",
            "subject_count: keep",
            "must be redacted",
        ),
        ("registered.yaml", "age_band: coarse_age", "age_bnad: coarse_age", "does not have"),
        ("registered.yaml", "visit_number: keep, ", "", "the key of fct_visit"),
        (
            "registered.yaml",
            "variables: [visit]",
            "variables: [consent]",
            "does not hold",
        ),
        (
            "open.yaml",
            "  dim_measure:",
            "  fct_verdict:\n    rows: shared\n    columns: [series_key]\n  dim_measure:",
            "row per person",
        ),
        ("open.yaml", "rounding: 5", "rounding: five", "open.yaml: rounding"),
        ("site.yaml", "rows: own_shared", "rows: own", "only subjects who share"),
        ("registered.yaml", "images: measures", "images: none", "is about scans"),
        ("registered.yaml", "event_date: visit_date", "event_date: visit_day", "must name event_date"),
        ("registered.yaml", "[diagnosis_year, onset_year,", "[onset_year,", "suppress_first does not name"),
        ("registered.yaml", "sensitive: [disease_course]", "sensitive: [sex]", "no sensitive columns"),
        ("open.yaml", "last: 70", "last: 71", "whole bands"),
        ("controlled.yaml", "session_date: shift", "session_date: keep", "controlled shifts them"),
        (
            "controlled.yaml",
            "{subject_key: pseudonym, visit_number",
            "{subject_key: keep, visit_number",
            "must be pseudonyms",
        ),
        ("controlled.yaml", "site_code: blur_site", "site_code: keep", "would tell the site"),
        ("controlled.yaml", "[is_imaging_consented]", "[is_imaging_allowed]", "consent lacks"),
        ("controlled.yaml", "date_shift_days: 365", "date_shift_days: 0", "at least 1"),
        ("controlled.yaml", "age_years: 90, ", "", r"top_codes\.age_years"),
        ("steward.yaml", "rows: all", "rows: most", "steward.yaml: tables"),
    ],
)
def test_contradictions_are_refused(folder: Path, file: str, old: str, new: str, message: str) -> None:
    change(folder / file, old, new)
    with pytest.raises(DictionaryError, match=message):
        policy.load_policy(folder)


def test_registered_follows_the_dictionary() -> None:
    tables = policy.load_policy().tiers["registered"]
    subject = {c.name for c in tables["dim_subject"].columns}
    assert "birth_date" not in subject and "birth_year" not in subject
    assert {"onset_year", "diagnosis_year", "sex"} <= subject
    assert not {"consent_date", "withdrawal_date"} & subject


def test_network_may_only_make_the_rule_stricter() -> None:
    loaded = policy.load_policy()
    assert policy.disclosure_rule(loaded, Network()) == (7, 5)
    assert policy.disclosure_rule(loaded, Network(policy={"small_count_maximum": 9, "rounding": 10})) == (9, 10)
    for wrong in (
        {"small_count_maximum": 2},
        {"rounding": True},
        {"rounding": "5"},
        {"tiers": 1},
    ):
        with pytest.raises(DictionaryError, match=r"network\.yaml"):
            policy.disclosure_rule(loaded, Network(policy=wrong))


def test_presets_hold_back_and_say_where_they_come_from() -> None:
    loaded = policy.load_policy()
    assert policy.preset_names() == ["default", "hcp", "opensafely"]
    for name in policy.preset_names():
        assert policy.load_preset(name).source
        chosen = policy.in_force(loaded, Network(policy={"preset": name}))
        for tier, tables in chosen.tiers.items():
            for table, held in tables.items():
                assert {c.name for c in held.columns} <= {c.name for c in loaded.tiers[tier][table].columns}
    hcp = policy.in_force(loaded, Network(policy={"preset": "hcp"}))
    assert "edss" not in {c.name for c in hcp.tiers["registered"]["fct_visit"].columns}
    assert "edss" in {c.name for c in hcp.tiers["controlled"]["fct_visit"].columns}
    outputs = policy.in_force(loaded, Network(policy={"preset": "opensafely"}))
    assert (outputs.small_count_maximum, outputs.rounding) == (7, 5)
    assert not outputs.rules["registered"].row_level


@pytest.mark.parametrize(
    ("age", "band"), [(28, "26-30"), (26, "26-30"), (30, "26-30"), (31, "31-35"), (20, "under 21"), (71, "71 or over")]
)
def test_hcp_bands(age: int, band: str) -> None:
    """HCP's open access gives ages in bands of five years: 22-25, 26-30, 31-35."""
    bands = policy.load_preset("hcp").age_bands
    assert bands is not None
    text = (policy.FOLDER.parents[1] / "dbt_project/macros/age_band.sql").read_text()
    sql = Environment(autoescape=False).from_string(text).module.banded(age, bands.first, bands.width, bands.last)  # type: ignore[attr-defined]
    assert duckdb.sql(f"select {sql}").fetchall() == [(band,)]


def test_dates_can_be_told_by_month(folder: Path) -> None:
    change(folder / "registered.yaml", "dates: year", "dates: month")
    change(folder / "registered.yaml", "[diagnosis_year, onset_year,", "[diagnosis_month, onset_month,")
    column = next(
        c for c in policy.load_policy(folder).tiers["registered"]["fct_visit"].columns if c.source == "visit_date"
    )
    assert column.name == "visit_month"
    sql = catalogue_sql.sql_of(column, "source")
    assert duckdb.sql(f"select {sql} from (select date '2024-03-09' as visit_date) as source").fetchall() == [
        ("2024-03",)
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes: [key, plain, quasi]", "classes: [key, plain, quasi, tracing]", "which registered.yaml does not"),
        ("classes: [key, plain, quasi]", "classes: [key, plain]", "row_level: false instead"),
        ("classes: [key, plain, quasi]", "classes: [key, quasi]", "row_level: false instead"),
        ("classes: [key, plain, quasi]", "k: 3", "less k or l"),
        ("registered:\n", "rounding: 3\nregistered:\n", "smaller or finer"),
        ("registered:\n", "colour: red\nregistered:\n", "colour"),
    ],
)
def test_a_preset_may_not_loosen_the_policy(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "presets" / "hcp.yaml"
    change(path, old, new)
    with pytest.raises(DictionaryError, match=message):
        policy.with_preset(policy.load_policy(), policy.load_preset(path))


def test_network_chooses_a_preset_and_stricter_k() -> None:
    loaded = policy.load_policy()
    chosen = policy.in_force(loaded, Network(policy={"k": 20, "l": 3}))
    assert (chosen.rules["registered"].k, chosen.rules["controlled"].k) == (20, 20)
    assert chosen.rules["registered"].l == 3
    # What asks for less than the tier's own file changes nothing.
    assert policy.in_force(loaded, Network(policy={"k": 2})).rules["registered"].k == loaded.rules["registered"].k
    for wrong in ({"preset": "hpc"}, {"k": 0}, {"k": "11"}):
        with pytest.raises(DictionaryError):
            policy.in_force(loaded, Network(policy=wrong))


def test_differences_are_said_in_words() -> None:
    loaded = policy.load_policy()
    before, after = (policy.in_force(loaded, Network(policy={"preset": name})) for name in ("default", "hcp"))
    lines = policy_words.differences(before, after)
    assert "every tier: age bands of 5 years from 21 to 71, instead of 10 years from 20 to 70." in lines
    assert "registered: fct_treatment loses dmt, dose, dose_count, stop_reason." in lines
    assert policy_words.differences(before, before) == []
    shown = policy_words.column_words(after, "registered")
    assert ("fct_visit", "edss") not in {row[:2] for row in shown}
    assert len(policy_words.column_words(before, "registered")) > len(shown)
