"""Planted faults of a simulated network, counted against its truth."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from orchestration.scoring import SOUND, score
from tests.e2e.conftest import Run
from warehouse.home import Home
from warehouse.lake import read_table

SEED = os.environ.get("RANVIER_TEST_SEED", "1")
LEAST_FOUND, MOST_FLAGGED = 0.9, 0.1

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, ranvier: Run) -> Path:
    root = tmp_path_factory.mktemp("network") / "home"
    done = ranvier("demo", "--home", root, "--scans", "12", "--seed", SEED, timeout=2400)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def test_the_network_holds_every_kind_of_fault_at_two_severities(home: Path) -> None:
    truth = json.loads((home / "truth.json").read_text(encoding="utf-8"))
    severities = defaultdict(list)
    for scan in truth["scans"]:
        severities[scan["kind"]].append(scan["severity"])
    assert len(truth["scans"]) >= 48
    assert len(severities.pop(SOUND)) >= 16
    assert len(severities) == 10
    assert all(len(found) >= 2 and len(set(found)) >= 2 for found in severities.values())
    assert len(truth["registry_faults"]) >= 40


def test_planted_faults_are_found_and_sound_scans_are_not_flagged(home: Path) -> None:
    scores = score(Home(home), home / "truth.json")
    faults = [s for s in scores if s.kind != SOUND]
    missed = {s.kind: s.missed for s in faults if s.missed}
    assert sum(s.found for s in faults) >= LEAST_FOUND * sum(s.planted for s in faults), missed
    sound = next(s for s in scores if s.kind == SOUND)
    assert sound.found <= MOST_FLAGGED * sound.planted, sound.missed


def test_verdicts_do_not_come_from_the_truth(home: Path, ranvier: Run) -> None:
    def verdicts() -> pl.DataFrame:
        return read_table(Home(home), "raw_qa__verdict").select("series_key", "verdict", "rule_ids").sort("series_key")

    before = verdicts()
    (home / "truth.json").rename(home / "moved.json")
    try:
        assert ranvier("run", "--home", home, "--site", "MILANO", "--no-release").returncode == 0
    finally:
        (home / "moved.json").rename(home / "truth.json")
    assert verdicts().equals(before)


def test_files_received_are_files_taken_and_files_refused(home: Path) -> None:
    place = Home(home)
    files = read_table(place, "raw_lake__file")
    assert set(files["status"]) <= {"accepted", "refused"}
    assert files.filter((pl.col("status") == "refused") & pl.col("reason").is_null()).is_empty()
    for site in files["site_code"].unique():
        sent = [p for p in (place.landing / site).rglob("*") if p.is_file()]
        assert files.filter(pl.col("site_code") == site).height == len(sent)
