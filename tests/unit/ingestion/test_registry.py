"""Registry tables in every form sites send them become rows or refusals, never guesses."""

from __future__ import annotations

import re
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ingestion.profile import Profile, load_profile
from ingestion.registry import RegistryFile, RegistryResult, read_registry
from warehouse.errors import HomeError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

sys.path.insert(0, str(Path(__file__).parent))
from workbook import DateCell, write_workbook

HEADER = "patient_id,family_name,given_name,sex,birth_date,disease_course"
ROW = "HAM-0042,Müller,Zoë,F,1980-02-29,RRMS"


def profile(**changes: Any) -> Profile:
    return Profile.model_validate(load_profile("own_names").model_dump() | changes)


def read(tmp_path: Path, *paths: Path, using: Profile | None = None) -> RegistryResult:
    files = [RegistryFile(path, number) for number, path in enumerate(paths, start=1)]
    chosen = using or load_profile("own_names")
    return read_registry(files, chosen, Pseudonyms(Home(tmp_path)), "HAM", "dlv_1")


def read_text(tmp_path: Path, text: str | bytes, name: str = "patients.csv", **changes: Any) -> RegistryResult:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(tmp_path, path, using=profile(**changes) if changes else None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_give_the_same_person(tmp_path: Path, encoding: str, end: str) -> None:
    plain, other = tmp_path / "patients_1.csv", tmp_path / "patients_2.csv"
    plain.write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8")
    other.write_bytes(f"{HEADER}{end}{ROW}{end}".encode(encoding))
    result = read(tmp_path, plain, other)
    assert [fate.rows_count for fate in result.files.values()] == [1, 1]
    assert result.refusals.is_empty()
    table = result.tables["patient"]
    assert table["subject_key"].n_unique() == 1
    assert Pseudonyms(Home(tmp_path)).same_person() == []
    assert "family_name" not in table.columns and "patient_id" not in table.columns


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(tmp_path: Path, separator: str) -> None:
    text = f"{HEADER}\n{ROW}\n".replace(",", separator)
    table = read_text(tmp_path, text).tables["patient"]
    assert table["birth_date"].to_list() == [date(1980, 2, 29)]


def test_title_rows_and_sep_line_are_skipped_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    text = f"sep=,\nRegistry of the centre\n\n{HEADER}\n\n{ROW}\n"
    assert read_text(tmp_path, text).tables["patient"]["source_row"].to_list() == [6]


@pytest.mark.parametrize(
    ("cell", "comma", "expected"),
    [
        ("12,5", True, 12.5),
        ("12.5", True, 12.5),
        ("1.012,5", True, 1012.5),
        ("1,012.5", True, None),
        ("1.234", True, None),
        ("12,5", False, None),
        ("12.5", False, 12.5),
        ("1e400", False, None),
        ("nan", False, None),
    ],
)
def test_decimal_comma(tmp_path: Path, cell: str, comma: bool, expected: float | None) -> None:
    text = f"patient_id;visit_date;t25fw_s\nP1;2020-01-01;{cell}\n"
    result = read_text(tmp_path, text, "visits.csv", decimal_comma=comma)
    if expected is None:
        assert result.refusals["reason_code"].to_list() == ["unreadable_number"]
    else:
        assert result.tables["visit"]["t25fw_s"].to_list() == [expected]


@pytest.mark.parametrize(
    ("form", "cell", "expected"),
    [
        ("%d.%m.%Y", "3.2.1980", date(1980, 2, 3)),
        ("%m/%d/%Y", "02/03/1980", date(1980, 2, 3)),
        ("%d-%b-%Y", "03-Feb-1980", date(1980, 2, 3)),
        ("%m/%Y", "02/1980", date(1980, 2, 1)),
        ("%Y", "1980", date(1980, 1, 1)),
        ("%d.%m.%y", "03.02.55", date(1955, 2, 3)),
        ("%Y-%m-%d", "1980-02-03T10:00:00", date(1980, 2, 3)),
        ("%Y-%m-%d", "1980-02-30", None),
        ("%Y-%m-%d", "03.02.1980", None),
        ("%Y", "20", None),
    ],
)
def test_dates(tmp_path: Path, form: str, cell: str, expected: date | None) -> None:
    text = f"{HEADER}\nP1,A,B,F,{cell},RRMS\n"
    result = read_text(tmp_path, text, date_formats=[form])
    if expected is None:
        assert result.refusals.select("variable", "reason_code").rows() == [("birth_date", "unreadable_date")]
    else:
        assert result.tables["patient"]["birth_date"].to_list() == [expected]


@pytest.mark.parametrize("from_1904", [False, True])
def test_workbook_dates_and_numbers(tmp_path: Path, from_1904: bool) -> None:
    days = 29280 - (1462 if from_1904 else 0)  # 1980-02-29
    cells = [
        HEADER.split(","),
        [42, "A", "B", "F", DateCell(days), "RRMS"],
        ["43", "A", "B", "F", float(days), "RRMS"],
        ["44", "A", "B", "F", "1980-02-29", "RRMS"],
        ["45", "A", "B", "F", "yesterday", "RRMS"],
    ]
    path = write_workbook(tmp_path / "patients.xlsx", {"Patients": cells}, first_row=3, from_1904=from_1904)
    result = read(tmp_path, path)
    assert result.tables["patient"]["birth_date"].to_list() == [date(1980, 2, 29)] * 3
    assert result.tables["patient"]["source_row"].to_list() == [4, 5, 6]
    assert result.refusals.select("source_row", "reason_code").rows() == [(7, "unreadable_date")]


def test_errors_of_a_spreadsheet_are_no_missing_values(tmp_path: Path) -> None:
    cells = [["patient_id", "visit_date", "edss"], ["P1", "2020-01-01", "#REF!"], ["P2", "2020-01-01", "#N/A"]]
    plain = write_workbook(
        tmp_path / "plain.xlsx", {"Visits": [["title"], [None, *cells[0]], *([None, *c] for c in cells[1:])]}
    )
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "visits.xlsx", "w") as target:
        for info in source.infolist():
            text = source.read(info).decode()
            text = re.sub(r't="inlineStr"><is><t>(#[^<]*)</t></is>', r't="e"><v>\1</v>', text).replace('A1"', 'C1"')
            target.writestr(info.filename, text)
    result = read(tmp_path, tmp_path / "visits.xlsx")
    assert result.tables["visit"]["edss"].to_list() == [None]
    assert result.refusals.select("source_row", "variable", "reason_code").rows() == [(3, "edss", "unreadable_number")]


def test_sheets_that_are_left_out_are_said(tmp_path: Path) -> None:
    sheets = {
        "Patients": [HEADER.split(","), ROW.split(",")],
        "Notes": [["remark"], ["x"]],
        "Visits": [["visit_date", "edss"], ["2020-01-01", 2]],
    }
    fate = read(tmp_path, write_workbook(tmp_path / "book.xlsx", sheets)).files[1]
    assert (fate.status, fate.reason_code, fate.rows_count) == ("accepted", "partly_used", 1)
    assert fate.reason is not None
    assert "1 sheet(s) hold no registry table" in fate.reason
    assert "Sheet 3 was left out. The nearest table is visit" in fate.reason


def test_codes_missing_words_and_short_codes(tmp_path: Path) -> None:
    columns = {"sx": {"variable": "sex", "values": {"Groß": "M", "9": None}}}
    entities = {"patient": {"files": ["*patient*"], "columns": columns}}
    text = HEADER.replace("sex", "sx") + "".join(
        f"\nP{n},A,B,{code},1980,RRMS" for n, code in enumerate(["GROẞ", "9", "f", "N/A", "x", "Schmidt", "77"])
    )
    result = read_text(tmp_path, text + "\n77,A,B,77,1980,RRMS\n", entities=entities)
    assert result.tables["patient"]["sex"].to_list() == ["M", None, "F", None]
    reasons = result.refusals["reason"].to_list()
    assert reasons[0].startswith("The code x of sex")
    # `Schmidt` may be a name, and 77 is a patient's number further down.
    assert all(reason.startswith("The code of sex is not known") for reason in reasons[1:])
    assert len(reasons) == 4


def test_refusals_hold_no_identifier(tmp_path: Path) -> None:
    secrets = ["HAM-0042", "Schmidt", "Waltraud", "31.31.1957", "Bergedorf"]
    text = f"{HEADER}\nHAM-0042,Schmidt,Waltraud,Bergedorf,31.31.1957,RRMS\n,Schmidt,Waltraud,F,1957-01-01,RRMS\n"
    result = read_text(tmp_path, text + "HAM-0042,Schmidt,Waltraud,F,1957-01-01,RRMS,Bergedorf\n")
    codes = dict(result.refusals.select("source_row", "reason_code").iter_rows())
    assert codes == {2: "unknown_code", 3: "missing_patient_id", 4: "wrong_column_count"}
    everything = result.refusals.write_csv() + str(result.files)
    assert not [secret for secret in secrets if secret in everything]


def test_a_stray_quote_spoils_its_own_row_only(tmp_path: Path) -> None:
    rows = [f"P{n},A,B,F,1980-01-01,RRMS" for n in range(20)]
    rows[7] = 'P7,"A,B,F,1980-01-01,RRMS'
    rows[9] = 'P9,"A, of\nthe hill",B,F,1980-01-01,RRMS'
    result = read_text(tmp_path, "\n".join([HEADER, *rows]))
    assert result.files[1].rows_count == 20
    assert result.tables["patient"].height == 20


@pytest.mark.parametrize(
    ("name", "data", "code", "is_table"),
    [
        ("patients.csv", b"", "empty_file", True),
        ("patients.csv", b"\n \n", "empty_file", True),
        ("patients.csv", b"a,b\n1,2\n", "unknown_table", True),
        ("patients.csv", b"sex,birth_date\nF,1980\n", "missing_column", True),
        ("patients.csv", b"patient_id,sex,sex\n1,F,F\n", "duplicate_column", True),
        ("patients.csv", bytes(range(1, 32)) * 9, "not_text", True),
        ("patients.xlsx", b"PK\x03\x04 torn off", "damaged_workbook", True),
        ("readme.txt", b"These are our scans.\n", "unknown_table", False),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, code: str, is_table: bool) -> None:
    fate = read_text(tmp_path, data, name).files[1]
    assert (fate.status, fate.reason_code, fate.is_table) == ("refused", code, is_table)
    assert fate.reason and fate.reason.endswith(".")


def test_a_bad_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("name: p\nentities: {patient: {columns: {A: no_such}}}\n", encoding="utf-8")
    with pytest.raises(HomeError, match="no variable 'no_such'"):
        load_profile("p.yaml", Home(tmp_path))
    with pytest.raises(HomeError, match="no source profile"):
        load_profile("missing", Home(tmp_path))
