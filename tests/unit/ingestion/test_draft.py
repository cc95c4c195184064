"""A draft of a profile for an unknown file: what is sure is proposed, what is not is marked, and nobody is shown."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ingestion.profile import Profile
from ingestion.registry import RegistryFile, read_registry
from ingestion.registry.draft import ProfileDraft, draft_profile
from orchestration.cli import app, main
from tests.unit.ingestion.workbook import DateCell, write_workbook
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

KNOWN = {
    "Patient-Nr.": "patient_id",
    "Nachname": "family_name",
    "Vorname": "given_name",
    "Geschlecht": "sex",
    "Geburtsdatum": "birth_date",
    "Verlaufsform": "disease_course",
    "Krankheitsbeginn": "onset_date",
    "Diagnosedatum": "diagnosis_date",
    "Händigkeit": "handedness",
    "Visitendatum": "visit_date",
    "EDSS gesamt": "edss",
    "FS Pyramidal": "fs_pyramidal",
    "FS Cerebellar": "fs_cerebellar",
    "FS Brainstem": "fs_brainstem",
    "FS Sensory": "fs_sensory",
    "FS Visual": "fs_visual",
    "FS Cerebral": "fs_cerebral",
    "T25FW (s)": "t25fw_s",
    "9HPT dominant": "nhpt_dominant_s",
    "9HPT non-dominant": "nhpt_nondominant_s",
    "SDMT": "sdmt_score",
    "PASAT-3": "pasat_score",
    "Gewicht": "weight_kg",
    "MRT-Datum": "mri_date",
    "Gd lesions": "gd_lesion_count",
    "T2 lesions": "t2_lesion_count",
}
UNKNOWN = [
    "Telefon", "Hausarzt", "Bemerkung", "Raum", "Studie", "Fragebogen 17", "Index Z", "Laborcharge", "Kode A",
    "Kode B", "Kürzel", "Quartal", "Anmeldung", "Freitext",
]  # fmt: skip


def invented(folder: Path) -> Path:
    """A workbook of 40 columns: 60 visits of 20 invented people, German headings, a title above them."""
    rng = random.Random(1)
    rows: list[list[str | float | DateCell | None]] = [["Export Ambulanz"], [], [*KNOWN, *UNKNOWN]]
    for n in range(60):
        p = n % 20
        numbers = [round(rng.uniform(4, 9), 1), round(rng.uniform(18, 30), 1), round(rng.uniform(18, 30), 1)]
        person: list[str | float | DateCell | None] = [f"UKX-{1000 + p}", f"Mustermann{p}", "Erika"]
        person += ["weiblich" if p % 3 else "männlich", DateCell(25000 + 97 * p), ["schubförmig", "SP", "PP"][p % 3]]
        person += [DateCell(36000 + p), DateCell(36300 + p), "rechts"]
        visit = [DateCell(43000 + 90 * n), rng.randrange(2, 16) / 2, *(rng.randrange(4) for _ in range(6)), *numbers]
        visit += [rng.randrange(30, 70), rng.randrange(20, 60), 70 + p]
        scan = [DateCell(43000 + 90 * n), rng.randrange(3), rng.randrange(4, 40)]
        other = [f"+49 40 {rng.randrange(10**6):06d}", "Dr. Muster", "geht besser", "3.12", None, 2, 0.5, "L-77", "a"]
        rows.append([*person, *visit, *scan, *other, "b", "EM", "Q1", "online", "kein Anhalt"])
    return write_workbook(folder / "Ambulanz 2026.xlsx", {"Visiten": rows})


@pytest.fixture(scope="module")
def workbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented(tmp_path_factory.mktemp("ambulanz"))


@pytest.fixture(scope="module")
def drafted(workbook: Path) -> ProfileDraft:
    return draft_profile([workbook], "ambulanz")


def test_forty_columns_become_a_profile_that_reads(tmp_path: Path, workbook: Path, drafted: ProfileDraft) -> None:
    found = {column.column: column.variable for column in drafted.columns}
    assert len(found) == 40
    assert {name: found[name] for name in KNOWN} == KNOWN
    assert {name for name in UNKNOWN if found[name] is not None} == set()
    profile = Profile.model_validate(yaml.safe_load(drafted.as_yaml()))
    result = read_registry([RegistryFile(workbook, 1)], profile, Pseudonyms(Home(tmp_path)), "HAM", "dlv_1")
    assert result.refusals.is_empty()
    assert {name: table.height for name, table in result.tables.items()} == {
        "patient": 20,
        "visit": 60,
        "mri_session": 60,
    }
    assert result.tables["patient"]["sex"].value_counts().sort("sex")["count"].to_list() == [13, 7]
    assert result.tables["visit"]["visit_date"].min() == date(1899, 12, 30) + timedelta(43000)


def test_nobody_is_recognised_by_the_samples(drafted: ProfileDraft) -> None:
    shown = drafted.as_yaml() + " ".join(sample for column in drafted.columns for sample in column.samples)
    for secret in ("UKX-10", "Mustermann", "Erika", "Muster", "1968", "+49", "geht besser"):
        assert secret not in shown
    assert "xxxxxxxxxx9" in shown and "weiblich" in shown


def test_day_and_month_that_cannot_be_told_apart_are_said(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text("ID;Date visite;EDSS\n1;03/04/2020;2,5\n2;05/06/2020;3\n", encoding="utf-8")
    drafted = draft_profile([path], "lyon")
    [visit] = [column for column in drafted.columns if column.variable == "visit_date"]
    assert visit.notes == ("its values do not tell day from month",)
    assert drafted.profile["entities"]["visit"][0]["columns"]["EDSS"] == {"variable": "edss", "decimal_comma": True}


def test_the_command_writes_a_draft_once_and_refuses_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text("ID,Name,Telefon,Date visite,EDSS\n1,Mustermann,040,2020-01-01,2\n", encoding="utf-8")
    arguments = ["site", "profile", str(path), "--name", "ambulanz", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    text = (tmp_path / "ambulanz.yaml").read_text(encoding="utf-8")
    assert "# ?  Telefon: no variable was found" in text
    assert "Mustermann" not in done.output
    with pytest.raises(SystemExit) as second:
        main(arguments)
    assert second.value.code == 2
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SystemExit) as nothing:
        main(["site", "profile", str(tmp_path / "empty.csv")])
    assert nothing.value.code == 2
