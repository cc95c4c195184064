"""The process that opens one workbook or Parquet file and writes its cells, as texts, to its output.

Here: what runs inside that process, and how large a table may be. Not here: starting it (`ingestion.registry.packed`).
Its answer is one line of JSON, then a stream of Arrow per sheet. It stands outside the package that starts it, because
importing that would take longer than the work.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
import zlib
from pathlib import Path

import fastexcel
import polars as pl

MAXIMUM_BYTES = 256 << 20
"""A table of 256 MiB holds about a million visits and takes some 3 GB while it is read; a larger one comes in parts."""
MAXIMUM_CELLS = 20_000_000
"""Cells of a table, empty ones too: a million visits of 20 columns. 256 MiB of separators would be 250 million."""
DAMAGED_WORKBOOK = (
    "damaged_workbook",
    "The workbook is damaged, incomplete or protected by a password; save it again without one and send it.",
)
DAYS_1904 = 1462
"""Days between the two first days that workbooks count from, 1900 and 1904."""
TOO_LARGE = (
    "file_too_large",
    f"The table unpacks to more than {MAXIMUM_BYTES >> 20} MiB or {MAXIMUM_CELLS // 1_000_000} million cells; delete "
    "empty rows and columns behind the last used ones, or send it in several files.",
)
ERROR_CELLS = (
    "error_cells",
    "The workbook holds cells with an error such as #REF!; correct or empty them and send it again.",
)
DAMAGED_PARQUET = ("damaged_parquet", "The Parquet file is damaged or incomplete; write it again and send it.")
NESTED_PARQUET = (
    "nested_columns",
    "A column of the Parquet file holds lists, records or bytes and no plain values; flatten it and send it again.",
)


class _Refused(Exception):
    """The file as a whole cannot be read: (reason code, reason)."""


def main() -> None:
    """Answer about the file that the only argument names. Ends with an error where memory runs out."""
    path = Path(sys.argv[1])
    try:
        day_offset, sheets = _parquet(path) if _is_parquet(path) else _workbook(path)
    except _Refused as refused:
        sys.stdout.buffer.write(json.dumps({"refused": refused.args}).encode() + b"\n")
        return
    parts = []
    for _, cells in sheets:
        buffer = io.BytesIO()
        cells.write_ipc_stream(buffer)
        parts.append(buffer.getvalue())
    head = {
        "day_offset": day_offset,
        "sheets": [(name, len(part)) for (name, _), part in zip(sheets, parts, strict=True)],
    }
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    for part in parts:
        sys.stdout.buffer.write(part)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"PAR1"


# ---- workbooks


def _workbook(path: Path) -> tuple[int, list[tuple[str, pl.DataFrame]]]:
    offset = _check_package(path)
    sheets = []
    cells_count = 0
    try:
        reader = fastexcel.read_excel(path)
        errors = _error_cells(path)
        for number, name in enumerate(reader.sheet_names):
            # Rows above the first used one are kept, so that row numbers are those the site sees.
            sheet = reader.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
            cells_count += sheet.height * sheet.width
            if cells_count > MAXIMUM_CELLS:
                raise _Refused(*TOO_LARGE)
            cells = sheet.with_columns(pl.all().cast(pl.String).fill_null(""))
            sheets.append((name, _with_errors(cells, errors.get(number, []))))
    except fastexcel.FastExcelError:
        raise _Refused(*DAMAGED_WORKBOOK) from None
    except BaseException as error:
        # A crash inside the workbook reader arrives as an exception of its own kind, outside `Exception`.
        if type(error).__name__ != "PanicException":
            raise
        raise _Refused(*DAMAGED_WORKBOOK) from None
    return offset, sheets


def _check_package(path: Path) -> int:
    """Days to add to a bare date number of this workbook. Raises _Refused when it unpacks to more than a table may."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > 4 * MAXIMUM_BYTES:
                raise _Refused(*TOO_LARGE)
            start = archive.read("xl/workbook.xml")[:20000]
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
        return 0  # another workbook format, or damaged: the reader of the workbook says which
    return DAYS_1904 if re.search(rb'date1904="(1|true)"', start) else 0


def _error_cells(path: Path) -> dict[int, list[tuple[int, int, str]]]:
    """Number of the sheet -> (row, column, error) of its cells such as #REF!, which the reader gives as empty.

    Rows count from the sheet's first, columns from the first that is used. Workbooks that are no XLSX are not looked
    into. Raises _Refused when a sheet unpacks to more than a table may.
    """
    found: dict[int, list[tuple[int, int, str]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            links = archive.read("xl/_rels/workbook.xml.rels").decode("utf-8", errors="replace")
            targets = {
                _attribute(tag, "Id"): _attribute(tag, "Target") for tag in re.findall(r"<Relationship [^>]*>", links)
            }
            book = archive.read("xl/workbook.xml").decode("utf-8", errors="replace")
            for number, tag in enumerate(re.findall(r"<sheet [^>]*>", book)):
                name = "xl/" + targets[_attribute(tag, "r:id")].removeprefix("/xl/")
                if archive.getinfo(name).file_size > MAXIMUM_BYTES:
                    raise _Refused(*TOO_LARGE)
                found[number] = _errors_in(archive.read(name))
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError, zlib.error):
        return found
    return found


def _attribute(tag: str, name: str) -> str:
    value = re.search(rf'\b{name}="([^"]*)"', tag)
    return value.group(1) if value else ""


def _errors_in(sheet: bytes) -> list[tuple[int, int, str]]:
    if b't="e"' not in sheet:
        return []
    first = min(_column(letters) for letters in re.findall(rb'<c r="([A-Z]+)\d+"[^>/]*>', sheet))
    cells = re.findall(rb'<c r="([A-Z]+)(\d+)"[^>]*\bt="e"[^>]*>.*?<v>([^<]{1,20})</v>', sheet)
    return [(int(row) - 1, _column(letters) - first, error.decode("ascii", "replace")) for letters, row, error in cells]


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _with_errors(cells: pl.DataFrame, errors: list[tuple[int, int, str]]) -> pl.DataFrame:
    """The cells with the errors where they stand. Raises _Refused when their place cannot be told."""
    for row, column, error in errors:
        if row >= cells.height or column >= cells.width or cells[row, column]:
            raise _Refused(*ERROR_CELLS)
        cells[row, column] = error
    return cells


# ---- Parquet


def _parquet(path: Path) -> tuple[None, list[tuple[str, pl.DataFrame]]]:
    try:
        lazy = pl.scan_parquet(path)
        width = len(lazy.collect_schema())
        if lazy.select(pl.len()).collect().item() * max(width, 1) > MAXIMUM_CELLS:
            raise _Refused(*TOO_LARGE)
        table = lazy.collect()
    except (pl.exceptions.PolarsError, OSError):
        raise _Refused(*DAMAGED_PARQUET) from None
    if any(kind.is_nested() or kind in (pl.Binary, pl.Object) for kind in table.dtypes):
        raise _Refused(*NESTED_PARQUET)
    header = pl.DataFrame([table.columns], schema=[f"column_{n}" for n in range(table.width)], orient="row")
    cells = table.select(_text(name, kind).alias(f"column_{n}") for n, (name, kind) in enumerate(table.schema.items()))
    return None, [("", pl.concat([header, cells]))]


def _text(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as texts: dates in ISO 8601, whole numbers without a point."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        column = column.dt.strftime("%Y-%m-%dT%H:%M:%S")
    elif kind.is_float():
        whole = (column == column.round()) & (column.abs() < 2.0**53)
        return (
            pl.when(whole)
            .then(column.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(column.cast(pl.String))
            .fill_null("")
        )
    return column.cast(pl.String).fill_null("")
