"""Writing a simulated site's tables in the site's own names, codes and date formats.

Here: a source profile read backwards, into CSV or a workbook. Not here: what the rows hold (`registry`). The workbook
is written by hand with fixed times, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from typing import Any
from xml.sax.saxutils import escape

from ingestion.profile import Profile
from ingestion.simulator.registry import EXPECTED, Registry, Row
from warehouse.dictionary import load_dictionary

EXCEL_DAY_ZERO = date(1899, 12, 30)
FIRST_DATA_ROW = 2
"""Rows are counted as a spreadsheet shows them: the header is row 1."""


def write_tables(
    registry: Registry, profile: Profile, files: dict[str, str]
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """A site's files and the faults in them.

    Parameters
    ----------
    files
        Registry table -> file name; `name.xlsx:sheet` puts it into a workbook.

    Returns
    -------
    (files, faults)
        File name -> content; and per planted fault its kind, table, file, row and what should find it.
    """
    texts: dict[str, bytes] = {}
    books: dict[str, dict[str, list[list[Any]]]] = {}
    faults: list[dict[str, Any]] = []
    for table, target in files.items():
        rows = registry.tables[table]
        name, _, sheet = target.partition(":")
        faults.extend(_faults(rows, table, name))
        columns = _columns(profile, table)
        if sheet:
            grid = [list(columns), *([_cell(profile, table, v, row.get(v)) for v in columns.values()] for row in rows)]
            books.setdefault(name, {})[sheet] = grid
        else:
            texts[name] = _csv(profile, table, columns, rows)
    return texts | {name: _workbook(sheets) for name, sheets in books.items()}, faults


def _faults(rows: list[Row], table: str, file: str) -> list[dict[str, Any]]:
    return [
        {"kind": row["fault"], "file": file, "row": number, "entity": table, "expected": EXPECTED[row["fault"]][1]}
        for number, row in enumerate(rows, FIRST_DATA_ROW)
        if row.get("fault")
    ]


def _columns(profile: Profile, table: str) -> dict[str, str]:
    """The site's column name -> dictionary variable, in the order of the profile."""
    listed = profile.entities[table].columns
    if listed:
        return {source: column.variable for source, column in listed.items()}
    return {variable.name: variable.name for variable in load_dictionary().entities[table].variables}


def _cell(profile: Profile, table: str, variable: str, value: Any) -> Any:
    """One value in the site's words; dates stay dates for a workbook."""
    if value is None:
        return None
    column = next((c for c in profile.entities[table].columns.values() if c.variable == variable), None)
    if isinstance(value, bool):
        return (profile.true_values if value else profile.false_values)[0]
    if column is not None and column.values:
        return next((source for source, code in column.values.items() if code == value), value)
    if isinstance(value, tuple):  # a day that does not exist
        day, month, year = value
        form = profile.date_formats[0]
        return form.replace("%d", f"{day:02d}").replace("%m", f"{month:02d}").replace("%Y", str(year))
    return value


def _csv(profile: Profile, table: str, columns: dict[str, str], rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=profile.separator or ",", lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_text(profile, _cell(profile, table, v, row.get(v))) for v in columns.values())
    return text.getvalue().encode(profile.encoding or "utf-8")


def _text(profile: Profile, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, date):
        return value.strftime(profile.date_formats[0])
    if isinstance(value, float):
        return f"{value:g}".replace(".", "," if profile.decimal_comma else ".")
    return str(value)


def _workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    """A minimal Office Open XML workbook (ECMA-376): inline strings, numbers, and dates as day numbers."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbers = range(1, len(sheets) + 1)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kind}.worksheet+xml"/>' for n in numbers
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        + "".join(
            f'<sheet name="{escape(s)}" sheetId="{n}" r:id="rId{n}"/>' for n, s in zip(numbers, sheets, strict=True)
        )
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
        )
        + f'<Relationship Id="rId{len(sheets) + 1}" Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
        '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
        '<cellXfs count="2"><xf/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
    }
    for number, grid in zip(numbers, sheets.values(), strict=True):
        body = "".join(f"<row>{''.join(_xml(cell) for cell in row)}</row>" for row in grid)
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
        )
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in parts.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            book.writestr(info, '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>' + text)
    return target.getvalue()


def _xml(cell: Any) -> str:
    if cell is None:
        return "<c/>"
    if isinstance(cell, date):
        return f'<c s="1"><v>{(cell - EXCEL_DAY_ZERO).days}</v></c>'
    if isinstance(cell, int | float):
        return f"<c><v>{cell:g}</v></c>"
    return f'<c t="inlineStr"><is><t>{escape(str(cell))}</t></is></c>'
