"""The registry tables of the simulated network: faults planted in them, and the files that sites send.

Here: which row is spoilt how, and CSV and XLSX in a site's own words (its source profile read backwards). Not here: the
patients themselves (`people`).
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from ingestion.profile import Column, Profile, load_profile
from ingestion.simulator.network import Centre
from ingestion.simulator.people import Person, Row
from warehouse.dictionary import load_dictionary

ENTITIES = ("patient", "visit", "relapse", "treatment", "mri_session", "consent")
FAULT_KINDS = (
    "edss_half", "edss_eleven", "onset_after_diagnosis", "stop_before_start", "missing_consent", "withdrawn",
    "bad_date", "unknown_code", "stop_without_reason",
)  # fmt: skip
EXPECTED = {
    "edss_half": "R01", "edss_eleven": "R01", "onset_after_diagnosis": "R05b", "stop_before_start": "R07a",
    "missing_consent": "CONSENT_MISSING", "withdrawn": "withdrawn", "bad_date": "unreadable_date",
    "unknown_code": "unknown_code", "stop_without_reason": "R07b", "duplicate_patient": "R18",
}  # fmt: skip
"""Kind -> rule or reason of the refusal that must find it. `withdrawn` breaks no rule: that patient may be in no tier
but the steward's."""
FAULTS_PER_SITE = 12
FIXED_TIME = (2026, 9, 28, 12, 0, 0)


@dataclass
class Fault:
    """A fault planted into one row; `row` is found when the file is written."""

    kind: str
    site: str
    entity: str
    target: Row
    delivery: str = ""
    file: str = ""
    row: int = 0
    also: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """A cell that is written as it stands, because no value of the dictionary could be written so."""

    text: str


def _edss(value: float) -> Callable[[Person, np.random.Generator], tuple[str, Row]]:
    def spoil(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
        row = person.rows["visit"][int(rng.integers(len(person.rows["visit"])))]
        row["edss"] = value
        return "visit", row

    return spoil


def _onset(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
    row = person.patient
    row["diagnosis_date"] = row["onset_date"] - dt.timedelta(days=int(rng.integers(400, 700)))
    return "patient", row


def _stop(with_reason: bool) -> Callable[[Person, np.random.Generator], tuple[str, Row]]:
    def spoil(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
        row = person.rows["treatment"][-1]
        days = int(rng.integers(30, 200))
        row["stop_date"] = row["start_date"] + dt.timedelta(days=-days if with_reason else days)
        row["stop_reason"] = "not_tolerating" if with_reason else None
        return "treatment", row

    return spoil


def _no_consent(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
    person.rows["consent"] = []
    return "patient", person.patient


def _withdrawn(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
    row = person.rows["consent"][0]
    row["withdrawal_date"] = row["consent_date"] + dt.timedelta(days=int(rng.integers(60, 400)))
    return "consent", row


def _bad_date(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
    row = person.rows["visit"][-1]
    row["visit_date"] = Raw(str(rng.choice(("31/02/2025", "2025-13-40", "ca. 2025", "00.00.2025"))))
    return "visit", row


def _unknown_code(person: Person, rng: np.random.Generator) -> tuple[str, Row]:
    row = person.rows["visit"][-1]
    row["visit_type"] = Raw(str(rng.choice(("77", "xx", "Q"))))
    return "visit", row


SPOIL: dict[str, Callable[[Person, np.random.Generator], tuple[str, Row]]] = {
    "edss_half": _edss(0.5), "edss_eleven": _edss(11.0), "onset_after_diagnosis": _onset,
    "stop_before_start": _stop(True), "stop_without_reason": _stop(False), "missing_consent": _no_consent,
    "withdrawn": _withdrawn, "bad_date": _bad_date, "unknown_code": _unknown_code,
}  # fmt: skip


def plant(site: str, index: int, people: Sequence[Person], rng: np.random.Generator) -> list[Fault]:
    """Spoil one row each of up to twelve different people; kinds take turns, over the sites too."""
    faults = []
    start = index * (FAULTS_PER_SITE % len(FAULT_KINDS))
    for i, person in enumerate(people[:FAULTS_PER_SITE]):
        kind = FAULT_KINDS[(start + i) % len(FAULT_KINDS)]
        entity, row = SPOIL[kind](person, rng)
        faults.append(Fault(kind, site, entity, row))
    return faults


def plant_duplicate(original: Person, site: str, other: Person, other_site: str) -> Fault:
    """Make `original` the same person as `other`, who is a patient of another site.

    Some sites send the month of birth only, so that both are born on the first of one.
    """
    other.patient["birth_date"] = other.patient["birth_date"].replace(day=1)
    for name in ("family_name", "given_name", "sex", "birth_date"):
        original.patient[name] = other.patient[name]
    return Fault("duplicate_patient", site, "patient", original.patient, also={"site": other_site})


# ---- from rows to a site's files


class _Writer:
    """Turns values into a site's words: its source profile backwards."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.types = {e.name: {v.name: v.type for v in e.variables} for e in load_dictionary().entities.values()}

    def columns(self, entity: str) -> list[tuple[str, Column]]:
        [table] = self.profile.entities[entity]
        return list(table.columns.items())

    def cell(self, entity: str, column: Column, row: Row, keep_types: bool) -> Any:
        value = row.get(column.variable)
        if value is None:
            return ""
        if isinstance(value, Raw):
            return value.text
        kind = self.types[entity][column.variable]
        if kind == "date":
            return value if keep_types else _date_text(value, (column.date_formats or self.profile.date_formats)[0])
        if kind == "boolean":
            return (self.profile.true_values if value else self.profile.false_values)[0]
        if kind == "code":
            return next((site for site, code in column.values.items() if code == value), value)
        if kind in ("integer", "decimal"):
            number = value / column.factor
            if keep_types:
                return number
            return f"{number:g}".replace(".", "," if self.profile.decimal_comma else ".")
        return value

    def table(self, entity: str, rows: Sequence[Row], keep_types: bool) -> list[list[Any]]:
        columns = self.columns(entity)
        return [[name for name, _ in columns]] + [
            [self.cell(entity, column, row, keep_types) for _, column in columns] for row in rows
        ]


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _date_text(day: dt.date, form: str) -> str:
    """`strftime` without the machine's language."""
    return day.strftime(form.replace("%b", _MONTHS[day.month - 1]))


def write_tables(
    folder: Path, delivery: str, centre: Centre, people: Sequence[Person], faults: Sequence[Fault]
) -> None:
    """Write the tables of a delivery and note in `faults` where each spoilt row stands (the first row is 1)."""
    writer = _Writer(load_profile(centre.site.profile))
    sheets: dict[str, list[tuple[str, list[list[Any]]]]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for entity in ENTITIES:
        rows = [row for person in people for row in person.rows[entity]]
        name = centre.files[entity]
        for fault in faults:
            place = next((i for i, row in enumerate(rows) if row is fault.target), None)
            if place is not None:
                fault.delivery, fault.file, fault.row = delivery, name, place + 2
        is_workbook = name.endswith(".xlsx")
        table = writer.table(entity, rows, is_workbook)
        if is_workbook:
            sheets.setdefault(name, []).append((centre.sheets[entity], table))
        elif rows:
            text = io.StringIO()
            csv.writer(text, delimiter=writer.profile.separator or ",", lineterminator="\r\n").writerows(table)
            (folder / name).write_bytes(_encoded(text.getvalue(), writer.profile.encoding or "utf-8"))
    for name, found in sheets.items():
        (folder / name).write_bytes(workbook(found))


def _encoded(text: str, encoding: str) -> bytes:
    """Text in a site's encoding; a foreign name loses the accents that its clerks cannot type."""

    def typed(letter: str) -> str:
        try:
            letter.encode(encoding)
        except UnicodeEncodeError:
            return unicodedata.normalize("NFKD", letter)[0]
        return letter

    return "".join(typed(letter) for letter in text).encode(encoding)


def workbook(sheets: Sequence[tuple[str, list[list[Any]]]]) -> bytes:
    """A minimal XLSX file: texts inline, numbers, and dates as true date cells. The same cells give the same bytes."""
    spread = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbers = range(1, len(sheets) + 1)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="{kind}.worksheet+xml"/>' for i in numbers
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{spread}" xmlns:r="{office}"><sheets>'
        + "".join(
            f'<sheet name="{escape(name)}" sheetId="{i}" r:id="rId{i}"/>'
            for i, (name, _) in zip(numbers, sheets, strict=True)
        )
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="rId{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>' for i in numbers
        )
        + f'<Relationship Id="rId{len(sheets) + 1}" Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{spread}"><fonts count="1"><font/></fonts>'
        '<fills count="1"><fill/></fills><borders count="1"><border/></borders>'
        '<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf/>'
        '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
    }
    for i, (_, table) in zip(numbers, sheets, strict=True):
        lines = "".join(
            f'<row r="{r}">' + "".join(_cell(f"{_letter(c)}{r}", value) for c, value in enumerate(row)) + "</row>"
            for r, row in enumerate(table, start=1)
        )
        parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{spread}"><sheetData>{lines}</sheetData></worksheet>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            archive.writestr(entry, (head + text).encode())
    return out.getvalue()


def _letter(column: int) -> str:
    return chr(ord("A") + column)


def _cell(place: str, value: Any) -> str:
    if value == "" or value is None:
        return ""
    if isinstance(value, dt.date):
        return f'<c r="{place}" s="1"><v>{(value - dt.date(1899, 12, 30)).days}</v></c>'
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value:g}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'
