"""The formats of others, on rows made here."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime

import polars as pl

from warehouse.dictionary import load_dictionary
from warehouse.policy import load_policy
from warehouse.standards.cdisc import domain_rows, load_layout
from warehouse.standards.data_package import as_csv
from warehouse.standards.redcap_dictionary import HEADER, redcap_dictionary


def redcap_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(redcap_dictionary(load_dictionary()))))


def test_the_redcap_dictionary_has_the_18_columns() -> None:
    first = redcap_dictionary(load_dictionary()).splitlines()[0]
    assert first.startswith(
        'Variable / Field Name,Form Name,Section Header,Field Type,Field Label,"Choices, Calculations'
    )
    assert next(csv.reader([first])) == list(HEADER) and len(HEADER) == 18


def test_every_variable_is_one_field_and_the_record_comes_first() -> None:
    rows = redcap_rows()
    names = [row["Variable / Field Name"] for row in rows]
    wanted = {v.name for entity in load_dictionary().entities.values() for v in entity.variables}
    assert names[0] == "patient_id" and len(names) == len(set(names)) and set(names) == wanted
    assert all(name == name.lower() and len(name) <= 100 for name in names)


def test_fields_carry_codes_ranges_units_and_identifiers() -> None:
    rows = {row["Variable / Field Name"]: row for row in redcap_rows()}
    edss, sex, name, born = rows["edss"], rows["sex"], rows["family_name"], rows["birth_date"]
    validation = "Text Validation Type OR Show Slider Number"
    assert (edss[validation], edss["Text Validation Min"], edss["Text Validation Max"]) == ("number", "0", "10")
    choices = sex["Choices, Calculations, OR Slider Labels"]
    assert choices == "F, female | M, male | O, other | U, unknown or not said"
    assert (sex["Field Type"], sex["Required Field?"], name["Identifier?"]) == ("dropdown", "y", "y")
    assert (born[validation], born["Form Name"]) == ("date_ymd", "patient")
    assert rows["t25fw_s"]["Field Note"] == "Unit: s" and rows["is_steroid_treated"]["Field Type"] == "yesno"
    for row in rows.values():
        for choice in filter(None, row["Choices, Calculations, OR Slider Labels"].split(" | ")):
            assert choice.split(", ", 1)[1], row["Variable / Field Name"]


def test_the_cdisc_layout_names_columns_that_marts_have() -> None:
    tiers = load_policy().tiers["steward"]
    codes = {v.name: v.codes or {} for entity in load_dictionary().entities.values() for v in entity.stored_variables}
    for name, file in load_layout().files.items():
        held = {column.name for column in tiers[file.mart].columns}
        cells = [cell for cell in (*file.columns.values(), *file.tests.values()) if cell]
        used = {cell.variable for cell in cells} | {cell.otherwise for cell in cells if cell.otherwise}
        assert used | set(file.date.values()) | {key for cell in cells for key in cell.where} <= held, name
        for cell in cells:
            assert set(cell.values) <= {*codes[cell.variable], "true", "false"}, (name, cell.variable)


def test_pegs_are_told_by_hand_and_left_out_where_no_hand_is_dominant() -> None:
    visits = pl.DataFrame(
        {
            "subject_key": ["a", "b", "c"],
            "visit_date": [date(2026, 1, 2)] * 3,
            "nhpt_dominant_s": [18.0, 19.0, 20.0],
            "nhpt_nondominant_s": [21.0, 22.5, 23.0],
            "handedness": ["right", "left", "ambidextrous"],
        }
    )
    rows = domain_rows(load_layout().files["FT"], visits, "optimise")
    told = {
        (subject, test.split(":")[1]): value
        for subject, test, value in rows.select("USUBJID", "FTTEST", "FTORRES").iter_rows()
    }
    assert told == {("a", "right"): "18", ("a", "left"): "21", ("b", "left"): "19", ("b", "right"): "22.5"}
    assert set(rows["FTDTC"]) == {"1767312000000"}


def test_times_say_utc_only_where_their_zone_is_known() -> None:
    when = datetime(2026, 6, 20, 10, 30)
    frame = pl.DataFrame({"scanned": [when], "judged": [when.replace(tzinfo=UTC)], "is_good": [True], "edss": [None]})
    frame = frame.with_columns(pl.col("judged").dt.convert_time_zone("Europe/Rome"))
    assert as_csv(frame) == "scanned,judged,is_good,edss\n2026-06-20T10:30:00,2026-06-20T10:30:00Z,true,\n"


def test_laboratory_values_are_in_the_units_there() -> None:
    results = pl.DataFrame(
        {
            "subject_key": ["a", "a", "a"],
            "laboratory_date": [date(2026, 1, 2)] * 3,
            "laboratory_test": ["lymphocytes", "alt", "jcv_antibodies"],
            "laboratory_value": [1.4, 31.0, None],
            "laboratory_result": [None, None, "positive"],
            "handedness": ["left"] * 3,
        }
    )
    rows = domain_rows(load_layout().files["LB"], results, "optimise")
    assert dict(rows.select("LBTEST", "LBORRES").iter_rows()) == {
        "Full blood count:Total lymphocyte count": "1400",
        "Additional blood tests:ALT Alanine Aminotransferase": "31",
        "Antibodies related to PML risk:Plasma anti-JC virus": "positive",
    }


def test_only_its_own_modality_is_a_visual_evoked_potential() -> None:
    potentials = pl.DataFrame(
        {
            "subject_key": ["a", "a"],
            "evoked_potential_date": [date(2026, 1, 2)] * 2,
            "evoked_potential": ["vep", "sep_upper"],
            "evoked_potential_side": ["left", "right"],
            "is_evoked_potential_abnormal": [True, False],
            "evoked_potential_latency_ms": [126.0, 22.0],
            "evoked_potential_amplitude_uv": [None, 3.0],
            "handedness": [None, None],
        },
        schema_overrides={"handedness": pl.String},
    )
    rows = domain_rows(load_layout().files["NV"], potentials, "optimise")
    assert set(rows.select("NVTEST", "NVORRES", "NVLAT", "NVORRESU").iter_rows()) == {
        ("P100 Interpretation", "1", "LEFT", None),
        ("P100 Latency", "126", "LEFT", "msec"),
        ("SEP Upper Extremity", "0", "RIGHT", None),
    }
