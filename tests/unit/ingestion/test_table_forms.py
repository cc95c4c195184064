"""What a source profile can say about a table: tests in rows, records in parts, two entities in a file, odd dates."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingestion.profile import Profile
from ingestion.registry import RegistryFile, RegistryResult, read_registry
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms


def read(tmp_path: Path, files: dict[str, str | bytes], entities: dict[str, Any], **fields: Any) -> RegistryResult:
    profile = Profile.model_validate({"name": "centre", "entities": entities} | fields)
    given = []
    for number, (name, content) in enumerate(files.items(), start=1):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        given.append(RegistryFile(path, number))
    result = read_registry(given, profile, Pseudonyms(Home(tmp_path)), "HAM", "dlv_1")
    rows = sum(fate.rows_count for fate in result.files.values())
    kept = sum(frame.height for frame in result.tables.values())
    assert rows == kept + result.folded_count + result.refusals.height
    return result


WALK = {"variable": "t25fw_s", "combine": "mean"}
TESTS = {
    "files": ["tests"],
    "columns": {"ID": "patient_id", "Day": "visit_date"},
    "long": {
        "test": "Test",
        "value": "Result",
        "tests": {"EDSS": "edss", "walk trial*": WALK, "sdmt": "sdmt_score"},
        "ignore": ["height"],
    },
}


def test_one_row_per_test_becomes_one_row_per_visit(tmp_path: Path) -> None:
    text = (
        "ID,Day,Test,Result\n"
        "P1,2020-01-01,edss,2.5\nP1,2020-01-01,Walk trial 1,5\nP1,2020-01-01,walk trial 2,6\n"
        "P1,2020-01-01,Height,180\nP2,2020-01-01,SDMT,48\nP1,2020-06-01,EDSS,3\n"
    )
    result = read(tmp_path, {"tests.csv": text}, {"visit": TESTS})
    visits = result.tables["visit"].sort("source_row")
    assert visits.select("visit_date", "edss", "t25fw_s", "sdmt_score").rows() == [
        (date(2020, 1, 1), 2.5, 5.5, None),
        (date(2020, 1, 1), None, None, 48),
        (date(2020, 6, 1), 3.0, None, None),
    ]
    assert (result.folded_count, result.refusals.height) == (2, 0)
    assert result.files[1].reason == "1 row(s) hold nothing that the source profile takes and were left out."


def test_an_unknown_test_and_a_second_opinion_are_refused(tmp_path: Path) -> None:
    text = (
        "ID,Day,Test,Result\nP1,2020-01-01,EDSS,2.5\nP1,2020-01-01,EDSS,4\nP1,2020-01-01,EDSS,2.5\n"
        "P1,2020-01-01,mood,3\nP1,2020-01-01,sdmt,many\n,2020-01-01,EDSS,1\n"
    )
    result = read(tmp_path, {"tests.csv": text}, {"visit": TESTS})
    assert result.tables["visit"].select("edss", "source_row").rows() == [(2.5, 2)]
    found = dict(result.refusals.select("source_row", "reason_code").iter_rows())
    assert found == {
        3: "conflicting_value",
        5: "unknown_test",
        6: "unreadable_number",
        7: "missing_patient_id",
    }
    assert result.files[1].refused_count == 4
    assert "mood" not in result.refusals.write_csv()


def test_a_record_told_in_two_files_is_one_row(tmp_path: Path) -> None:
    entities = {
        "patient": [
            {"files": ["person"], "fold": True, "columns": {"ID": "patient_id", "Gender": "sex", "Born": "birth_date"}},
            {"files": ["diagnosis"], "fold": True, "columns": {"ID": "patient_id", "Course": "disease_course"}},
        ]
    }
    files: dict[str, str | bytes] = {
        "person.csv": "ID,Gender,Born\nP1,F,1980-01-01\nP2,M,1981-01-01\n",
        "diagnosis.csv": "ID,Course\nP2,RRMS\nP1,SPMS\nP3,CIS\n",
    }
    result = read(tmp_path, files, entities)
    rows = result.tables["patient"].select("sex", "disease_course", "file_number").rows()
    assert sorted(rows, key=str) == [("F", "SPMS", 1), ("M", "RRMS", 1), (None, "CIS", 2)]
    assert result.folded_count == 2


def test_rows_without_a_full_key_stay_apart(tmp_path: Path) -> None:
    text = "ID,Day,Test,Result\nP1,,EDSS,2.5\nP1,,sdmt,50\n"
    result = read(tmp_path, {"tests.csv": text}, {"visit": TESTS})
    assert result.tables["visit"].height == 2


def test_one_file_holds_two_entities(tmp_path: Path) -> None:
    entities = {
        "patient": {"files": ["all"], "beside": True, "fold": True, "columns": {"ID": "patient_id", "Gender": "sex"}},
        "visit": {"files": ["all"], "beside": True, "columns": {"ID": "patient_id", "Day": "visit_date"}},
    }
    text = "ID,Gender,Day,edss,colour\nP1,F,2020-01-01,2,red\nP1,F,2020-06-01,2,red\nP2,M,2020-01-01,?,red\n"
    result = read(tmp_path, {"all.csv": text}, entities)
    assert result.tables["patient"]["sex"].to_list() == ["F", "M"]
    assert result.tables["visit"]["edss"].to_list() == [2.0, 2.0, None]
    assert result.files[1].entities == ("patient", "visit")
    assert result.files[1].reason == "1 column(s) are not in the source profile and were left out."


def test_a_column_says_which_entity_a_row_is(tmp_path: Path) -> None:
    where = {"Event": ["Relapse"]}
    columns = {"ID": "patient_id", "Start": "relapse_date", "Grade": "relapse_severity"}
    entities = {"relapse": {"files": ["events"], "where": where, "columns": columns}}
    text = "ID,Event,Start,Grade\nP1,relapse,2020-01-01,Mild\nP1,Infection,2020-02-01,Mild\nP2,Relapse ,2020-03-01,\n"
    result = read(tmp_path, {"events.csv": text}, entities)
    assert result.tables["relapse"]["source_row"].to_list() == [2, 4]
    assert result.files[1].reason == "1 row(s) hold nothing that the source profile takes and were left out."
    lacking = read(tmp_path, {"events.csv": "ID,Start,Grade\nP1,2020-01-01,Mild\n"}, entities)
    assert lacking.files[1].reason_code == "missing_column"
    assert "a column Event" in str(lacking.files[1].reason)


def test_the_patient_may_stand_in_the_file_name(tmp_path: Path) -> None:
    entities = {
        "mri_session": {
            "files": ["sub-*_sessions"],
            "from_name": {"patient_id": "^sub-([0-9A-Za-z+]+)_sessions$"},
            "columns": {"acq_time": "mri_date"},
        },
        "patient": {
            "files": ["participants"],
            "columns": {"participant_id": {"variable": "patient_id", "extract": "^sub-(.+)$"}},
        },
    }
    files: dict[str, str | bytes] = {
        "sub-P1_sessions.tsv": "session_id\tacq_time\nses-01\t2020-01-01T10:00:00\n",
        "participants.tsv": "participant_id\tsex\nsub-P1\tF\nP2\tF\n",
    }
    result = read(tmp_path, files, entities)
    assert result.tables["mri_session"]["subject_key"].to_list() == result.tables["patient"]["subject_key"].to_list()
    assert result.refusals.select("variable", "reason_code").rows() == [("patient_id", "unreadable_text")]


@pytest.mark.parametrize(
    ("formats", "zone", "cell", "expected"),
    [
        (["epoch_ms"], "UTC", "1577836800000", date(2020, 1, 1)),
        (["epoch_ms"], "UTC", "-315619200000", date(1960, 1, 1)),
        (["epoch_ms"], "Europe/London", "1592002800000", date(2020, 6, 13)),
        (["epoch_ms"], "UTC", "1592002800000", date(2020, 6, 12)),
        (["epoch_s"], "UTC", "1577836800", date(2020, 1, 1)),
        (["epoch_ms"], "UTC", "2020-01-01", None),
        (["excel"], "UTC", "43831", date(2020, 1, 1)),
        (["%d/%m/%Y", "excel"], "UTC", "43831.5", date(2020, 1, 1)),
        (["%d/%m/%Y", "%d.%m.%y"], "UTC", "01.02.20", date(2020, 2, 1)),
    ],
)
def test_dates_as_numbers(tmp_path: Path, formats: list[str], zone: str, cell: str, expected: date | None) -> None:
    text = f"patient_id,visit_date,edss\nP1,{cell},2\n"
    result = read(tmp_path, {"visits.csv": text}, {"visit": {}}, date_formats=formats, time_zone=zone)
    if expected is None:
        assert result.refusals["reason_code"].to_list() == ["unreadable_date"]
    else:
        assert result.tables["visit"]["visit_date"].to_list() == [expected]


def test_a_date_that_two_formats_read_as_different_days_is_refused(tmp_path: Path) -> None:
    text = "patient_id,visit_date,edss\nP1,25/12/2020,1\nP2,12/25/2020,1\nP3,05/05/2020,1\nP4,04/05/2020,1\n"
    result = read(tmp_path, {"visits.csv": text}, {"visit": {}}, date_formats=["%d/%m/%Y", "%m/%d/%Y"])
    assert result.tables["visit"]["visit_date"].to_list() == [date(2020, 12, 25)] * 2 + [date(2020, 5, 5)]
    assert result.refusals.select("source_row", "variable", "reason_code").rows() == [
        (5, "visit_date", "ambiguous_date")
    ]


@pytest.mark.parametrize(
    ("encoding", "sex"),
    [("utf-8", b"\xff"), ("utf-8", b"F\x00"), ("utf-8", b"F\x07"), ("utf-8", b"F" * 1001), ("utf-16", b"F")],
)
def test_broken_text_refuses_its_cell(tmp_path: Path, encoding: str, sex: bytes) -> None:
    good = b"patient_id,sex,birth_date\nP\xc3\xa9,F,1980-01-01\nP2,"
    result = read(
        tmp_path, {"patients.csv": good + sex + b",1980-01-01\nP3,M,1980-01-01\n"}, {"patient": {}}, encoding=encoding
    )
    if encoding == "utf-16":
        assert result.files[1].status == "refused"
    else:
        assert result.tables["patient"]["sex"].to_list() == ["F", "M"]
        assert result.refusals.select("source_row", "variable", "reason_code").rows() == [(3, "sex", "broken_text")]


def test_a_parquet_file_is_read_with_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "patient_id": [7, 8, None],
            "visit_date": [date(2020, 1, 2), date(2020, 1, 3), None],
            "edss": [2.0, 2.5, None],
            "seen": [datetime(2020, 1, 2, 10), None, None],
        }
    )
    frame.write_parquet(tmp_path / "visits.parquet")
    content = (tmp_path / "visits.parquet").read_bytes()
    entities = {"visit": {"columns": {"seen": {"variable": "visit_date"}, "visit_date": "visit_date"}}}
    result = read(tmp_path, {"visits.parquet": content}, {"visit": {}}, decimal_comma=True, date_formats=["%d/%m/%Y"])
    assert result.tables["visit"].select("visit_date", "edss", "source_row").rows() == [
        (date(2020, 1, 2), 2.0, 2),
        (date(2020, 1, 3), 2.5, 3),
    ]
    twice = read(tmp_path, {"visits.parquet": content}, entities)
    assert twice.files[1].reason_code == "duplicate_column"
    broken = read(tmp_path, {"visits.parquet": content[:200]}, {"visit": {}})
    assert broken.files[1].reason_code == "damaged_parquet"
    pl.DataFrame({"patient_id": ["1"], "edss": [[2.0]]}).write_parquet(tmp_path / "nested.parquet")
    nested = read(tmp_path, {"nested.parquet": (tmp_path / "nested.parquet").read_bytes()}, {"visit": {}})
    assert nested.files[1].reason_code == "nested_columns"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": {"A": {"variable": "edss", "extract": "x"}}}, "exactly one group"),
        ({"columns": {"A": {"variable": "edss", "extract": "(?=x)(y)"}}}, "not a regular expression"),
        ({"columns": {"A": {"variable": "visit_type", "combine": "mean"}}}, "has no 'mean'"),
        ({"long": {"test": "T", "value": "V", "tests": {"a": "no_such"}}}, "no variable 'no_such'"),
        ({"beside": True}, "needs patterns"),
        ({"from_name": {"no_such": "(x)"}}, "no variable 'no_such'"),
    ],
)
def test_a_profile_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Profile.model_validate({"name": "p", "entities": {"visit": fields}})
