"""A finding's life over several runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from qa import findings
from qa.model import Finding
from warehouse import lake
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def made(rule: str, entity: str = "row-1") -> Finding:
    return Finding(rule, "BASEL", "row", entity, "error", "accuracy", "is wrong", "check it", "visit table, row 2")


def state(home: Home, site: str = "BASEL") -> dict[str, str]:
    return {row["rule_id"]: row["state"] for row in lake.read_table(home, findings.TABLE, site).iter_rows(named=True)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_same_run_twice_changes_nothing(home: Home) -> None:
    findings.upsert(home, "BASEL", [made("A"), made("B")], now=NOW, scope=None)
    once = lake.read_table(home, findings.TABLE)
    findings.upsert(home, "BASEL", [made("B"), made("A")], now=NOW, scope=None)
    assert lake.read_table(home, findings.TABLE).equals(once)


def test_a_finding_not_seen_again_is_resolved_and_opens_again_with_its_first_date(home: Home) -> None:
    findings.upsert(home, "BASEL", [made("A")], now=NOW, scope=None)
    findings.upsert(home, "BASEL", [], now=LATER, scope=None)
    assert state(home) == {"A": "resolved"}
    findings.upsert(home, "BASEL", [made("A")], now=LATER, scope=None)
    (row,) = lake.read_table(home, findings.TABLE).to_dicts()
    assert (row["state"], row["first_seen_datetime"], row["last_seen_datetime"]) == ("open", NOW, LATER)


def test_a_rule_that_was_not_judged_resolves_nothing(home: Home) -> None:
    findings.upsert(home, "BASEL", [made("A"), made("B")], now=NOW, scope=None)
    findings.upsert(home, "BASEL", [], now=LATER, scope={"A"})
    assert state(home) == {"A": "resolved", "B": "open"}


@pytest.mark.parametrize("decision", ["accepted", "rejected"])
def test_what_a_person_decided_stays(home: Home, decision: findings.State) -> None:
    findings.upsert(home, "BASEL", [made("A")], now=NOW, scope=None)
    findings.decide(home, "BASEL", made("A").key, decision)
    findings.upsert(home, "BASEL", [made("A")], now=LATER, scope=None)
    findings.upsert(home, "BASEL", [], now=LATER, scope=None)
    assert state(home) == {"A": decision}


def test_telling_the_site_moves_what_is_open_and_nothing_else(home: Home) -> None:
    findings.upsert(home, "BASEL", [made("A"), made("B")], now=NOW, scope=None)
    findings.decide(home, "BASEL", made("B").key, "accepted")
    findings.mark_notified(home, "BASEL")
    assert state(home) == {"A": "notified", "B": "accepted"}


def test_a_decision_about_no_finding_says_what_to_do(home: Home) -> None:
    with pytest.raises(RanvierError, match="ranvier finding list"):
        findings.decide(home, "BASEL", "nothing", "resolved")


def test_one_person_under_two_keys_is_a_warning_to_each_site_and_names_no_other(home: Home) -> None:
    pseudonyms = Pseudonyms(home)
    for site, patient in (("BASEL", "1"), ("PADUA", "7"), ("BASEL", "2"), ("LYON", "3")):
        subject = pseudonyms.key("subject", site, patient)
        pseudonyms.note_identity(site, [("other" if site == "LYON" else "same", subject)])
    findings.find_duplicate_patients(home, now=NOW)
    found = lake.read_table(home, findings.TABLE)
    assert found.group_by("site_code").len().sort("site_code").rows() == [("BASEL", 2), ("PADUA", 1)]
    padua = found.filter(pl.col("site_code") == "PADUA").row(0, named=True)
    assert (padua["rule_id"], padua["severity"]) == ("R18", "warning")
    assert "BASEL" not in padua["message"] + padua["action"]
    assert "two identifiers" in found.filter(pl.col("site_code") == "BASEL")["message"][0]
    findings.find_duplicate_patients(home, now=LATER)
    assert lake.read_table(home, findings.TABLE).height == 3


def test_a_corrected_identity_takes_the_warning_back(home: Home) -> None:
    pseudonyms = Pseudonyms(home)
    basel, padua = pseudonyms.key("subject", "BASEL", "1"), pseudonyms.key("subject", "PADUA", "7")
    pseudonyms.note_identity("BASEL", [("same", basel)])
    pseudonyms.note_identity("PADUA", [("same", padua)])
    findings.find_duplicate_patients(home, now=NOW)
    assert state(home, "BASEL") == state(home, "PADUA") == {"R18": "open"}
    pseudonyms.note_identity("PADUA", [("another", padua)])
    findings.find_duplicate_patients(home, now=LATER)
    assert state(home, "BASEL") == state(home, "PADUA") == {"R18": "resolved"}
