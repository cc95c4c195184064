"""A REDCap project with events and repeating instruments: from its data dictionary to rows of the lake."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from ingestion.profile import Profile
from ingestion.registry import RegistryFile, RegistryResult, read_registry
from ingestion.registry.redcap import Draft, draft, read_data_dictionary, read_export
from orchestration.cli import app
from warehouse.dictionary import Variable, load_dictionary
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms
from warehouse.standards.redcap_dictionary import HEADER, redcap_dictionary

COURSES = "1, Relapsing-remitting MS | 2, Primary progressive MS | 3, Benign"
FIELDS: list[tuple[str, str, str, str, str, str, str]] = [
    # name, form, kind, label, choices, validation, identifier
    ("record_id", "demographics", "text", "Record ID", "", "", ""),
    ("surname", "demographics", "text", "Family name", "", "", "y"),
    ("sex", "demographics", "radio", "Sex", "1, Female | 2, Male", "", ""),
    ("dob", "demographics", "text", "<b>Date of birth</b>", "", "date_dmy", "y"),
    ("onset_date", "demographics", "text", "Date of first symptom", "", "date_ymd", ""),
    ("course", "demographics", "dropdown", "Disease course", COURSES, "", ""),
    ("shoe_size", "demographics", "text", "Shoe size", "", "integer", ""),
    ("visit_date", "visit", "text", "Date of the visit", "", "date_ymd", ""),
    ("edss_total", "visit", "text", "EDSS total score", "", "number", ""),
    ("edss", "visit", "text", "EDSS", "", "number_1dp", ""),
    ("relapse_date", "relapse", "text", "First day of the relapse", "", "date_ymd", ""),
    ("severity", "relapse", "dropdown", "Relapse severity", "1, Mild | 2, Moderate | 3, Severe", "", ""),
    ("relapse_systems", "relapse", "checkbox", "Relapse", "1, visual functions were affected | 2, mood", "", ""),
    ("thanks", "visit", "descriptive", "Thank you", "", "", ""),
]  # fmt: skip
EXPORT = """\
record_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,surname,sex,dob,onset_date,course,\
shoe_size,demographics_complete,visit_date,edss_total,edss,visit_complete,relapse_date,severity,relapse_systems___1,\
relapse_systems___2,relapse_complete
7,baseline_arm_1,,,Quartieri,1,1980-02-03,2009-05-01,1,38,2,2020-03-04,2.5,2.5,2,,,,,
7,month_12_arm_1,,,,,,,,,,2021-03-05,3,3.0,1,,,,,
7,month_24_arm_1,,,,,,,,,,,,4.0,0,,,,,
7,baseline_arm_1,relapse,1,,,,,,,,,,,,2019-06-01,1,1,0,2
7,baseline_arm_1,relapse,2,,,,,,,,,,,,2020-07-01,3,0,1,2
8,baseline_arm_1,,,Pratolungo,2,1975-09-10,2001-01-01,3,43,2,,,,,,,,,
"""


def write_dictionary(folder: Path, header: tuple[str, ...] = HEADER) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore")
    writer.writeheader()
    for name, form, kind, label, choices, validation, identifier in FIELDS:
        values = dict(zip(HEADER, [""] * len(HEADER), strict=True)) | {
            "Variable / Field Name": name, "Form Name": form, "Field Type": kind, "Field Label": label,
            "Choices, Calculations, OR Slider Labels": choices,
            "Text Validation Type OR Show Slider Number": validation, "Identifier?": identifier,
            "Text Validation Min": "20" if name == "shoe_size" else "",
        }  # fmt: skip
        writer.writerow(values)
    path = folder / "Registry_DataDictionary_2026-11-24.csv"
    path.write_text(text.getvalue(), encoding="utf-8-sig")
    return path


def write_export(folder: Path, text: str = EXPORT) -> Path:
    path = folder / "Registry_DATA_2026-11-24_1010.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def drafted(tmp_path: Path) -> Draft:
    return draft(read_data_dictionary(write_dictionary(tmp_path)), read_export(write_export(tmp_path)), "milan")


def read(folder: Path, profile: Profile, path: Path) -> RegistryResult:
    home = Home(folder / "home")
    home.root.mkdir()
    return read_registry([RegistryFile(path, 1)], profile, Pseudonyms(home), "AA", "dlv_1")


def test_what_is_known_is_proposed_and_the_rest_is_marked(drafted: Draft) -> None:
    placed = {p.column: (p.entity, p.variable) for p in drafted.proposals if p.variable}
    assert placed["sex"] == ("patient", "sex") and placed["dob"] == ("patient", "birth_date")
    assert placed["surname"] == ("patient", "family_name")
    assert placed["severity"] == ("relapse", "relapse_severity")
    assert placed["relapse_systems___1"] == ("relapse", "is_relapse_visual")
    assert placed["edss"] == ("visit", "edss") and placed.get("edss_total") != ("visit", "edss")
    assert "shoe_size" not in placed and "relapse_systems___2" not in placed and "thanks" not in placed
    sex = next(p for p in drafted.proposals if p.column == "sex")
    assert (sex.values, sex.likeness) == ({"1": "F", "2": "M"}, 1.0)
    course = next(p for p in drafted.proposals if p.column == "course")
    assert (course.values, course.open_choices) == ({"1": "RRMS", "2": "PPMS"}, ("Benign",))
    text = drafted.profile_yaml()
    assert "# shoe_size (demographics): no variable was found." in text
    assert "# course: no code was found for Benign." in text


def test_fields_the_dictionary_lacks_are_drafted_as_variables_of_no_tier(drafted: Draft) -> None:
    lacking = {said["name"]: said for said in drafted.variables}
    shoe = Variable.model_validate(lacking["shoe_size"])
    assert (shoe.type, shoe.minimum, shoe.tier, shoe.disclosure) == ("integer", 20, "none", "sensitive")
    assert yaml.safe_load(drafted.variables_yaml())["variables"]


def test_events_and_repeating_instruments_become_rows_of_their_tables(drafted: Draft, tmp_path: Path) -> None:
    profile = Profile.model_validate(yaml.safe_load(drafted.profile_yaml()))
    result = read(tmp_path, profile, tmp_path / "Registry_DATA_2026-11-24_1010.csv")
    visits = result.tables["visit"]
    assert visits.select("visit_date", "edss").rows() == [
        (date(2020, 3, 4), 2.5), (date(2021, 3, 5), 3.0), (None, 4.0),
    ]  # fmt: skip
    relapses = result.tables["relapse"].select("relapse_date", "relapse_severity", "is_relapse_visual")
    assert relapses.rows() == [(date(2019, 6, 1), "mild", True), (date(2020, 7, 1), "severe", False)]
    patients = result.tables["patient"]
    assert patients.select("sex", "disease_course").rows() == [("F", "RRMS")]
    assert visits["subject_key"].n_unique() == 1 and set(relapses.columns) <= set(result.tables["relapse"].columns)
    # The patient whose course has no code is refused with the reason, not dropped.
    assert result.refusals.select("entity", "variable").rows() == [("patient", "disease_course")]
    assert result.files[1].status == "accepted"


def test_an_export_that_hides_unopened_forms_says_what_it_costs(tmp_path: Path) -> None:
    rows = [line.split(",") for line in EXPORT.splitlines()]
    status = [place for place, name in enumerate(rows[0]) if name.endswith("_complete")]
    gray = [[("0" if p in status and not cell and not row[2] else cell) for p, cell in enumerate(row)] for row in rows]
    export = write_export(tmp_path, "\n".join(",".join(row) for row in gray) + "\n")
    made = draft(read_data_dictionary(write_dictionary(tmp_path)), read_export(export), "milan")
    assert any("gray form status as blank" in note for note in made.notes)
    profile = Profile.model_validate(yaml.safe_load(made.profile_yaml()))
    result = read(tmp_path, profile, export)
    assert result.tables["visit"]["visit_date"].to_list() == [date(2020, 3, 4), date(2021, 3, 5)]
    assert result.tables["patient"].height + result.refusals.height == 2


def test_our_own_redcap_dictionary_comes_back_as_every_variable(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(redcap_dictionary(load_dictionary()), encoding="utf-8-sig")
    fields = read_data_dictionary(path)
    export = write_export(tmp_path, ",".join(f.name for f in fields) + "\n")
    made = draft(fields, read_export(export), "ours")
    assert all(p.variable == p.column and p.likeness == 1 for p in made.proposals), [
        p.column for p in made.proposals if p.variable != p.column
    ]
    assert made.variables == () and not any(p.open_choices for p in made.proposals)
    by_name = {v.name: v for entity in load_dictionary().entities.values() for v in entity.variables}
    assert all(set(f.choices) == set(by_name[f.name].codes or {}) for f in fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "it lacks the columns Variable / Field Name"),
        ("", "empty"),
        (",".join(f'"{name}"' for name in HEADER) + "\n", "no field below"),
    ],
)
def test_what_is_no_data_dictionary_is_refused_with_a_reason(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RanvierError, match=message):
        read_data_dictionary(path)


def test_the_command_writes_a_profile_and_never_over_one(tmp_path: Path) -> None:
    command = ["site", "redcap", str(write_dictionary(tmp_path)), str(write_export(tmp_path)), "--out", str(tmp_path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    profile = Profile.model_validate(yaml.safe_load((tmp_path / "redcap.yaml").read_text()))
    assert {"patient", "visit", "relapse"} <= profile.entities.keys()
    assert "is there already" in str(CliRunner().invoke(app, command).exception)
    assert pl.DataFrame(yaml.safe_load((tmp_path / "redcap_variables.yaml").read_text())["variables"]).height
