"""Whatever stands in a table, and in whatever form: each row is taken in, joins its record, or is refused once."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.profile import Profile
from ingestion.registry import RegistryFile, RegistryResult, read_registry
from tests.unit.ingestion.workbook import write_workbook
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

HEADER = ["patient_id", "visit_date", "edss", "visit_type"]
CELL = st.sampled_from(
    ["", "P1", "P2", "2020-01-01", "2020-02-30", "2.5", "-1", "two", "clinic", "=1+1", "x" * 1200, "\ufffd", " ", "é"]
)
TABLE = st.lists(st.lists(CELL, min_size=4, max_size=4), min_size=1, max_size=8)
TESTS = {
    "files": ["*"],
    "columns": {"patient_id": "patient_id", "visit_date": "visit_date"},
    "long": {"test": "edss", "value": "visit_type", "tests": {"P1": "edss", "2*": "sdmt_score"}, "ignore": ["clinic"]},
}
BOTH = {"files": ["*"], "beside": True, "fold": True}
FORMS = {
    "wide": {"visit": {"files": ["*"]}},
    "folded": {"visit": {"files": ["*"], "fold": True}},
    "long": {"visit": TESTS},
    "two entities": {
        "visit": {**BOTH, "where": {"visit_type": ["clinic", ""]}},
        "patient": {**BOTH, "columns": {"visit_date": "birth_date"}},
    },
}


def content(kind: str, rows: list[list[str]], folder: Path) -> bytes:
    if kind == "parquet":
        buffer = io.BytesIO()
        pl.DataFrame(rows, schema=HEADER, orient="row").write_parquet(buffer)
        return buffer.getvalue()
    if kind == "xlsx":
        return write_workbook(folder / "made.xlsx", {"Visits": [HEADER, *rows]}).read_bytes()
    separator = "\t" if kind == "tsv" else ";"
    return "\n".join(separator.join(row) for row in [HEADER, *rows]).encode()


def read(kind: str, form: str, rows: list[list[str]]) -> RegistryResult:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        path = folder / f"table.{kind}"
        path.write_bytes(content(kind, rows, folder))
        profile = Profile.model_validate({"name": "p", "entities": FORMS[form]})
        return read_registry([RegistryFile(path, 1)], profile, Pseudonyms(Home(folder)), "HAM", "dlv_1")


def check(kind: str, form: str, rows: list[list[str]]) -> None:
    result = read(kind, form, rows)
    given = [number for number, row in enumerate(rows, start=2) if any(cell.strip() for cell in row)]
    fate = result.files[1]
    assert fate.status == "accepted"
    kept = sum(table.height for table in result.tables.values())
    assert fate.rows_count == kept + result.folded_count + result.refusals.height
    assert fate.refused_count == result.refusals.height
    assert result.refusals["reason"].null_count() == 0 == result.refusals["reason_code"].null_count()
    seen = [table["source_row"] for table in (*result.tables.values(), result.refusals)]
    assert set(pl.concat(seen).to_list()) <= set(given)
    if form in ("wide", "folded"):
        assert fate.rows_count == len(given)
    if form == "wide":
        assert sorted(pl.concat(seen).to_list()) == given
    if form == "two entities":
        assert fate.rows_count == len(given) + sum(
            row[3].strip() in ("clinic", "") for row in rows if "".join(row).strip()
        )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(["csv", "tsv"]), rows=TABLE)
def test_text_tables(form: str, kind: str, rows: list[list[str]]) -> None:
    check(kind, form, rows)


@pytest.mark.parametrize(("kind", "form"), [("xlsx", "wide"), ("parquet", "long")])
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=TABLE)
def test_packed_tables(kind: str, form: str, rows: list[list[str]]) -> None:
    check(kind, form, rows)
