"""Registry tables through the whole house: landing, refusals, tiers, reports."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import Run
from warehouse.home import Home
from warehouse.lake import read_table
from warehouse.pseudonyms import Pseudonyms

PATIENTS = """patient_id,family_name,given_name,sex,birth_date,onset_date,diagnosis_date,disease_course
P1,Quillfeather,Ottoline,F,1980-02-03,2005-01-01,2006-01-01,RRMS
P2,Roe,Bob,M,1975-02-03,2010-01-01,2009-01-01,RRMS
P3,Poe,Cyd,F,1990-02-03,,,RRMS
P4,Loe,Dee,M,1990-02-03,2012-05-01,2013-01-01,PPMS
"""
VISITS = """patient_id,visit_date,edss
P1,2015-02-03,0.5
P1,2016-02-03,2.5
P2,2016-02-03,3
P3,2016-13-03,1
P4,2016-02-04,11
P4,2017-02-04,4
"""
CONSENT = """\
patient_id,consent_date,is_registry_consented,is_imaging_consented,is_research_sharing_consented,withdrawal_date
P1,2015-02-03,true,true,true,
P2,2015-02-03,true,true,true,2018-01-01
P4,2015-02-03,true,true,false,
"""
# With fewer than k subjects who share, `registered` would be empty: ten more a site, who show what P1 shows.
for number in range(10, 20):
    course = "SPMS" if number % 2 else "RRMS"
    PATIENTS += f"P{number},Hale{number},Ida{number},F,1980-02-{number},2005-01-01,2006-01-01,{course}\n"
    CONSENT += f"P{number},2015-02-03,true,true,true,\n"
SHARED, UNSHARED = "P1", ("P2", "P3", "P4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, ranvier: Run) -> Path:
    root = tmp_path_factory.mktemp("network") / "home"
    assert ranvier("init", root).returncode == 0
    for code in ("ALPHA", "BETA"):
        assert ranvier("site", "add", code, "--home", root).returncode == 0
        folder = root / "landing" / code / "first"
        folder.mkdir(parents=True)
        (folder / "patients.csv").write_text(PATIENTS, encoding="utf-8")
        (folder / "visits.csv").write_text(VISITS, encoding="utf-8")
        (folder / "consent.csv").write_text(CONSENT, encoding="utf-8")
        (folder / "_COMPLETE").touch()
    broken = root / "landing" / "BETA" / "second"
    broken.mkdir()
    (broken / "export.zip").write_bytes(b"PK\x03\x04 this is no archive")
    (broken / "_COMPLETE").touch()
    done = ranvier("run", "--home", root)
    assert done.returncode == 0, done.stderr
    return root


def rows(answer: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def sql(ranvier: Run, home: Path, tier: str, query: str) -> list[dict[str, object]]:
    return rows(ranvier("sql", "--home", home, "--tier", tier, "--format", "json", query))


def test_rows_read_are_rows_taken_and_rows_refused(home: Path) -> None:
    place = Home(home)
    for site in ("ALPHA", "BETA"):
        visits = read_table(place, "raw_registry__visit", site)
        unread = read_table(place, "raw_registry__refusal", site)
        broken = read_table(place, "raw_qa__refused_row", site).filter(pl.col("entity") == "visit")
        assert visits.height + unread.height == 6
        assert unread["reason_code"].to_list() == ["unreadable_date"]
        assert broken["rule_id"].to_list() == ["R01", "R01"]


def test_registered_shows_shared_subjects_without_dates_sites_or_deliveries(ranvier: Run, home: Path) -> None:
    visits = sql(ranvier, home, "registered", "select * from fct_visit")
    assert [visit["edss"] for visit in visits] == [2.5, 2.5]
    assert not {"visit_date", "site_code", "delivery_key"} & set(visits[0])


def test_open_has_no_row_level_table(ranvier: Run, home: Path) -> None:
    refused = ranvier("sql", "--home", home, "--tier", "open", "select * from fct_visit")
    assert refused.returncode == 1
    assert "fct_visit" in refused.stderr


def test_the_steward_traces_a_row_to_its_delivery(ranvier: Run, home: Path) -> None:
    visits = sql(ranvier, home, "steward", "select site_code, delivery_key, release_version from fct_visit")
    assert {visit["site_code"] for visit in visits} == {"ALPHA", "BETA"}
    assert all(visit["delivery_key"] and visit["release_version"] for visit in visits)


def test_a_subject_who_does_not_share_is_in_no_file_but_the_stewards(home: Path) -> None:
    pseudonyms = Pseudonyms(Home(home))
    version = (home / "releases" / "current").resolve()
    for site in ("ALPHA", "BETA"):
        keys = {p: pseudonyms.key("subject", site, p).encode() for p in (SHARED, *UNSHARED)}
        places = [p for root in (version, home / "reports", home / "outbox") for p in root.rglob("*") if p.is_file()]
        assert len(places) > 8
        for place in places:
            content = place.read_bytes()
            if place.name == "steward.duckdb":
                assert keys[SHARED] in content
            else:
                assert not [p for p in UNSHARED if keys[p] in content], place


def test_no_identifier_is_kept_outside_landing(home: Path) -> None:
    for path in home.rglob("*"):
        if path.is_file() and (home / "landing") not in path.parents:
            content = path.read_bytes()
            assert b"Quillfeather" not in content, path
            assert b"Ottoline" not in content, path


def test_an_unreadable_delivery_stops_nobody(ranvier: Run, home: Path) -> None:
    delivered = sql(ranvier, home, "steward", "select count(*) as n from fct_visit where site_code = 'BETA'")
    assert delivered[0]["n"] == 3
    manifest = json.loads((home / "releases" / "current" / "manifest.json").read_text(encoding="utf-8"))
    assert "BETA" in json.dumps(manifest)


def test_each_site_has_a_report_and_a_mail(home: Path) -> None:
    assert len(list(home.glob("reports/*/*/index.html"))) == 2
    assert len(list((home / "outbox").glob("*.eml"))) == 2


def test_a_second_run_has_nothing_to_do(ranvier: Run, home: Path) -> None:
    before = (home / "releases" / "current").resolve()
    assert ranvier("run", "--home", home).returncode == 0
    assert (home / "releases" / "current").resolve() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--home", "/nowhere"], "ranvier init"),
        (["site", "add", "lower", "--home", "{home}"], "capital"),
        (["run", "--site", "NOBODY", "--home", "{home}"], "ranvier site add NOBODY"),
        (["init", "{home}"], "is a home already"),
        (["dictionary", "nothing"], "No variable or column"),
        (["demo", "--home", "{home}", "--fresh"], "is not a demo's home"),
    ],
)
def test_errors_are_one_sentence_that_says_what_to_do(
    ranvier: Run, home: Path, arguments: list[str], says: str
) -> None:
    done = ranvier(*[part.format(home=home) for part in arguments])
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_check_names_rows_at_the_site_and_knows_no_dagster(ranvier: Run, home: Path) -> None:
    folder = home / "landing" / "ALPHA" / "first"
    done = ranvier("check", folder, "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["rows_refused"] == 3
    assert "visits.csv row" in json.dumps(found["problems"])
    probe = (
        "import sys; from orchestration.check import check_folder; from pathlib import Path;"
        f"check_folder(Path({str(folder)!r})); print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('dagster', 'dbt', 'dask')))"
    )
    import sys

    quiet = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert quiet.stdout.strip().splitlines()[-1] == "[]"
