"""The simulated registry: deterministic, read by the shipped profiles with exactly the planted refusals, counted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from ingestion.deliveries import find_deliveries
from ingestion.profile import load_profile
from ingestion.registry import RegistryFile, RegistryResult, is_candidate, read_registry
from ingestion.simulator import simulate
from ingestion.simulator.faults import RULES, SEVERITIES
from ingestion.simulator.network import centres
from ingestion.simulator.truth import plan_scans
from qa.variables import validate_frames
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

REFUSED = ("unreadable_date", "unknown_code")


def new_home(root: Path) -> Home:
    home = Home(root)
    for folder in home.folders():
        folder.mkdir(parents=True)
    home.network_file.write_text(
        "name: Kept\nquiet_seconds: 5\nsites:\n- {code: OWN, profile: own_names}\n", encoding="utf-8"
    )
    return home


def digests(home: Home) -> dict[str, str]:
    return {
        path.relative_to(home.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.landing.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = new_home(tmp_path_factory.mktemp("registry") / "home")
    simulate(home, scans=0)
    return home


def read_all(home: Home) -> dict[tuple[str, str], tuple[list[str], RegistryResult]]:
    found = {}
    for site in home.network().sites:
        profile = load_profile(site.profile)
        for delivery in find_deliveries(home, home.network(), site.code):
            files = [f for f in sorted(delivery.folder.rglob("*")) if f.is_file() and is_candidate(f)]
            given = [RegistryFile(path, i) for i, path in enumerate(files)]
            result = read_registry(given, profile, Pseudonyms(home), site.code, delivery.delivery_key or "")
            found[site.code, delivery.folder.name] = ([f.name for f in files], result)
    return found


def test_same_seed_same_bytes_and_another_seed_other_tables(tables: Home, tmp_path: Path) -> None:
    again, other = new_home(tmp_path / "again"), new_home(tmp_path / "other")
    simulate(again, scans=0)
    simulate(other, scans=0, seed=2)
    assert digests(again) == digests(tables)
    assert (again.root / "truth.json").read_bytes() == (tables.root / "truth.json").read_bytes()
    assert digests(other) != digests(tables)


def test_sites_are_added_and_the_rest_of_the_network_is_kept(tables: Home) -> None:
    network = tables.network()
    assert (network.name, network.quiet_seconds) == ("Kept", 5)
    assert [site.code for site in network.sites] == ["OWN", "MILANO", "BRNO", "LYON", "LEEDS"]
    assert all((site.contact or "").endswith(".example") for site in network.sites[1:])


def test_every_delivery_is_complete_and_one_site_sends_twice(tables: Home) -> None:
    sent = {s.code: find_deliveries(tables, tables.network(), s.code) for s in tables.network().sites[1:]}
    assert sorted(len(found) for found in sent.values()) == [1, 1, 1, 2]
    assert all(delivery.is_complete for found in sent.values() for delivery in found)
    assert not list(tables.landing.glob("*/.*"))


def test_truth_counts(tables: Home) -> None:
    faults = json.loads((tables.root / "truth.json").read_text())["registry_faults"]
    counts = Counter(fault["kind"] for fault in faults)
    assert counts.pop("duplicate_patient") == 4
    assert sum(counts.values()) == 48
    assert set(Counter(f["site"] for f in faults if f["kind"] != "duplicate_patient").values()) == {12}
    assert len(counts) == 9 and min(counts.values()) >= 5
    assert all(fault["row"] >= 2 and fault["file"] for fault in faults)


def test_profiles_read_every_table_with_exactly_the_planted_refusals(tables: Home) -> None:
    truth = json.loads((tables.root / "truth.json").read_text())["registry_faults"]
    for (site, delivery), (names, result) in read_all(tables).items():
        assert set(result.tables) == {"patient", "visit", "relapse", "treatment", "mri_session", "consent"}
        assert {(fate.status, fate.reason) for fate in result.files.values()} == {("accepted", None)}
        refused = result.refusals.select("file_number", "source_row", "reason_code").iter_rows()
        planted = [
            (f["file"], f["row"], f["expected"])
            for f in truth
            if (f["site"], f["delivery"]) == (site, delivery) and f["expected"] in REFUSED
        ]
        assert sorted((names[number], row, code) for number, row, code in refused) == sorted(planted)


def test_rules_find_what_is_planted_and_nothing_else(tables: Home) -> None:
    truth = json.loads((tables.root / "truth.json").read_text())["registry_faults"]
    read = read_all(tables)
    for site in tables.network().sites[1:]:
        results = [(d, names, r) for (s, d), (names, r) in read.items() if s == site.code]
        frames = {entity: pl.concat([r.tables[entity] for _, _, r in results]) for entity in results[0][2].tables}
        _, _, findings = validate_frames(frames, site.code)
        found = Counter((f.rule_id, f.delivery_key) for f in findings)
        wanted = Counter(
            f["expected"]
            for f in truth
            if f["site"] == site.code and f["expected"] not in (*REFUSED, "withdrawn", "R18")
        )
        by_rule: Counter[str] = Counter()
        for (rule, _), number in found.items():
            by_rule[rule] += number
        assert by_rule == wanted


def test_duplicates_are_the_same_person_to_the_pseudonym_table(tables: Home) -> None:
    read_all(tables)
    pairs = Counter(identity for identity, _, _ in Pseudonyms(tables).same_person())
    assert sorted(pairs.values()) == [2, 2, 2, 2]


def test_scan_plan_has_every_kind_at_two_severities_and_enough_sound() -> None:
    for seed in range(1, 6):
        found = centres(4)
        plan = plan_scans(found, 12, seed)
        faulty = Counter((p.kind, p.severity) for p in plan if p.kind != "sound")
        assert {(kind, s) for kind in RULES for s in SEVERITIES[:2]} <= set(faulty)
        assert sum(p.kind == "sound" for p in plan) == 19
        assert all(found[p.site].scanner.isocentre_known for p in plan if p.kind == "off_centre")
    small = plan_scans(centres(2), 4, 1)
    assert sum(p.kind == "sound" for p in small) >= 0.4 * len(small)


def test_numbers_that_cannot_be_and_a_second_simulation_are_refused(tables: Home, tmp_path: Path) -> None:
    with pytest.raises(RanvierError, match="another simulation"):
        simulate(tables, scans=0, seed=9)
    with pytest.raises(RanvierError, match="patients"):
        simulate(new_home(tmp_path / "a"), subjects=3, scans=12)
    with pytest.raises(RanvierError, match="sites"):
        simulate(tables, sites=0)


def test_an_interrupted_simulation_goes_on(tables: Home, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    simulate(home, scans=0)
    shutil.rmtree(home.landing / "LYON")
    kept = (home.landing / "BRNO" / "2026_zari" / "pacienti.csv").stat().st_mtime_ns
    simulate(home, scans=0)
    assert digests(home) == digests(tables)
    assert (home.landing / "BRNO" / "2026_zari" / "pacienti.csv").stat().st_mtime_ns == kept
