"""The policy fails closed: what a tier's file does not name is not in it, and what it may not name is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from warehouse import policy
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
