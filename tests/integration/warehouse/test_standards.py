"""What leaves a real release in the formats of others, read again by others' readers."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import frictionless
import pytest
from network import Lake
from typer.testing import CliRunner

from ingestion.profile import load_profile
from ingestion.registry import RegistryFile, read_registry
from orchestration.cli import app
from warehouse import audit
from warehouse.gateway import Tier
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms
from warehouse.standards.cdisc import load_layout, write_cdisc
from warehouse.standards.data_package import write_data_package
from warehouse.standards.participants import write_participants
from warehouse.standards.rows import open_tier


def read_archive(path: Path) -> dict[str, list[dict[str, str]]]:
    with zipfile.ZipFile(path) as archive:
        return {
            name: list(csv.DictReader(io.StringIO(archive.read(name).decode("utf-8")))) for name in archive.namelist()
        }


@pytest.mark.parametrize("tier", ["open", "registered", "steward"])
def test_a_tier_is_a_valid_data_package(released: Lake, tmp_path: Path, tier: Tier) -> None:
    target = tmp_path / f"{tier}.zip"
    with open_tier(released.home, tier, "t") as opened:
        count = write_data_package(opened, target)
    with zipfile.ZipFile(target) as archive:
        archive.extractall(tmp_path / tier)
    report = frictionless.Package(tmp_path / tier / "datapackage.json").validate()
    assert report.valid, report.flatten(["taskNumber", "rowNumber", "fieldName", "message"])[:5]
    package = json.loads((tmp_path / tier / "datapackage.json").read_text())
    assert len(package["resources"]) == count
    rows = {resource["name"]: resource for resource in package["resources"]}
    if tier != "open":
        assert rows["fct_visit"]["schema"]["primaryKey"] == ["subject_key", "visit_number"]
        (edss,) = [field for field in rows["fct_visit"]["schema"]["fields"] if field["name"] == "edss"]
        assert (edss["type"], edss["constraints"]["maximum"]) == ("number", 10)


def test_a_broken_cell_makes_the_package_invalid(released: Lake, tmp_path: Path) -> None:
    with open_tier(released.home, "registered", "t") as opened:
        write_data_package(opened, tmp_path / "r.zip")
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        archive.extractall(tmp_path)
    visits = tmp_path / "fct_visit.csv"
    visits.write_text(visits.read_text().replace(",clinic,", ",tea room,", 1))
    report = frictionless.Package(tmp_path / "datapackage.json").validate()
    (task,) = [task for task in report.tasks if not task.valid]
    assert (task.name, task.errors[0].type) == ("fct_visit", "constraint-error")


def test_cdisc_archive_is_in_the_layout_of_optimise(released: Lake, tmp_path: Path) -> None:
    with open_tier(released.home, "site", "t", site="AA") as opened:
        write_cdisc(opened, tmp_path / "aa.zip")
    files = read_archive(tmp_path / "aa.zip")
    assert {"DM.csv", "CE.csv", "QS.csv", "FT.csv", "MO.csv", "EX.csv", "MH_Diagnosis.csv", "AE.csv"} <= files.keys()
    assert list(files["DM.csv"][0]) == [
        "USUBJID", "BRTHDTC", "SEX", "DOMINANT", "ETHNIC", "COUNTRY", "STUDYID", "DOMAIN",
    ]  # fmt: skip
    assert list(files["QS.csv"][0]) == ["USUBJID", "QSTEST", "QSORRES", "QSSTRESN", "QSDTC", "STUDYID", "DOMAIN"]
    for name, rows in files.items():
        domain = load_layout().files[name.removesuffix(".csv")].domain
        assert {(row["STUDYID"], row["DOMAIN"]) for row in rows} == {("optimise", domain)}
    subjects = {row["USUBJID"] for row in files["DM.csv"]}
    assert len(subjects) == 10
    assert all({row["USUBJID"] for row in rows} <= subjects for rows in files.values())


def test_cdisc_values_and_dates_are_those_of_the_tier(released: Lake, tmp_path: Path) -> None:
    with open_tier(released.home, "site", "t", site="AA") as opened:
        write_cdisc(opened, tmp_path / "aa.zip")
        visits = opened.read("fct_visit")
    files = read_archive(tmp_path / "aa.zip")
    exported = {
        (row["USUBJID"], datetime.fromtimestamp(int(row["QSDTC"]) / 1000, tz=UTC).date(), float(row["QSORRES"]))
        for row in files["QS.csv"]
        if row["QSTEST"] == "edss:expanded disability status scale - estimated total"
    }
    assert exported == set(visits.select("subject_key", "visit_date", "edss").iter_rows())
    assert {row["QSORRES"] for row in files["QS.csv"]} == {"2", "2.5", "3"}
    assert {row["EXTRT"] for row in files["EX.csv"]} == {"Natalizumab (Tysabri)", "Ocrelizumab (Ocrevus)"}
    assert {row["MOORRES"] for row in files["MO.csv"]} == {"Brain", "12"}


def test_cdisc_is_refused_where_there_are_no_dates(released: Lake, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", "cdisc", str(tmp_path / "x.zip"), "--tier", "registered", "--home", str(released.home.root)]
    )
    assert "has no dates" in str(done.exception) and not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("tier", ["registered", "steward"])
def test_participants_are_bids(released: Lake, tmp_path: Path, tier: Tier) -> None:
    with open_tier(released.home, tier, "t") as opened:
        count = write_participants(opened, tmp_path)
    rows = list(csv.DictReader((tmp_path / "participants.tsv").open(), delimiter="\t"))
    sidecar = json.loads((tmp_path / "participants.json").read_text())
    assert len(rows) == count == len({row["participant_id"] for row in rows})
    assert all(re.fullmatch(r"sub-[0-9a-zA-Z+]+", row["participant_id"]) for row in rows)
    assert {row["sex"] for row in rows} <= {"F", "M", "O", "n/a"}
    assert all(value for row in rows for value in row.values())
    assert set(rows[0]) - {"participant_id"} == sidecar.keys()
    assert not {name for name in rows[0] if name.endswith(("_date", "_key", "_consented"))}
    if tier == "steward":
        assert all(int(row["age"]) <= 89 for row in rows if row["age"] != "n/a")


def test_an_export_is_audited_and_never_overwrites(released: Lake, tmp_path: Path) -> None:
    command = ["export", "bids", str(tmp_path), "--tier", "registered", "--home", str(released.home.root)]
    assert CliRunner().invoke(app, command).exit_code == 0
    again = CliRunner().invoke(app, command)
    assert "is there already" in str(again.exception)
    asked = [entry.get("statement") for entry in audit.entries(released.home)]
    assert "select * from dim_subject" in asked


def test_our_own_reader_reads_the_cdisc_archive_back(released: Lake, tmp_path: Path) -> None:
    with open_tier(released.home, "site", "t", site="AA") as opened:
        write_cdisc(opened, tmp_path / "aa.zip")
        held = {mart: opened.read(mart) for mart in ("dim_subject", "fct_visit", "fct_relapse", "fct_treatment")}
        held |= {mart: opened.read(mart) for mart in ("fct_mri_session", "fct_diagnosis")}
    with zipfile.ZipFile(tmp_path / "aa.zip") as archive:
        archive.extractall(tmp_path / "files")
    home = Home(tmp_path / "home")
    home.root.mkdir()
    files = sorted((tmp_path / "files").glob("*.csv"))
    given = [RegistryFile(path, number) for number, path in enumerate(files, start=1)]
    result = read_registry(given, load_profile("optimise"), Pseudonyms(home), "AA", "dlv_1")
    assert result.refusals.is_empty()
    assert {fate.status for fate in result.files.values()} == {"accepted"}
    for mart, columns in {
        "dim_subject": ["sex", "birth_date"],
        "fct_visit": ["visit_date", "edss", "sdmt_score"],
        "fct_relapse": ["relapse_date", "relapse_severity"],
        "fct_treatment": ["dmt", "start_date"],
        "fct_mri_session": ["mri_date", "mri_region", "t2_lesion_count"],
        "fct_diagnosis": ["diagnosed_date", "diagnosis"],
    }.items():
        entity = "patient" if mart == "dim_subject" else mart.removeprefix("fct_")
        came_back = result.tables[entity].select(columns).sort(columns)
        sent = held[mart].select(columns).drop_nulls(columns[0]).sort(columns)
        assert came_back.rows() == sent.rows(), mart
