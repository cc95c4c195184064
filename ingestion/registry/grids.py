"""From bytes to cells: what encoding and separator a text table has, what stands in a workbook's sheets.

Here: decoding, splitting lines, opening workbooks; every file gives grids of texts or one refusal. Not here: what the
cells mean (`match`, `convert`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from pathlib import Path

import fastexcel
import polars as pl

from ingestion.profile import SEPARATORS, Profile, normal
from ingestion.registry.model import FileRefused, Grid

WORKBOOK_ENDINGS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
TEXT_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt"})
MAXIMUM_BYTES = 256 << 20
"""A table of 256 MiB holds about a million visits and takes some 3 GB while it is read; a larger one comes in parts."""
HEADER_ROWS = 10
"""The header is looked for in the first rows, because sites put titles above it."""
QUOTED_LINES = 50
"""A quoted cell may run over this many lines; beyond, the quote is taken for a stray character."""
DAYS_1904 = 1462
"""Days between the two first days that workbooks count from, 1900 and 1904."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_grids(path: Path, profile: Profile) -> list[Grid]:
    """The grids of a file: one per sheet of a workbook, one for a text file.

    Raises
    ------
    FileRefused
        It is empty, too large, damaged, protected, no text, or cannot be opened.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise FileRefused("empty_file", "The file is empty; export the table again and send it.")
        if size > MAXIMUM_BYTES:
            raise _too_large()
        if path.suffix.lower() in WORKBOOK_ENDINGS:
            return _workbook(path)
        return [_text_grid(path, profile)]
    except PermissionError as error:
        raise FileRefused(
            "unreadable_file", "The file cannot be opened; check its permissions and send it again."
        ) from error


def _too_large() -> FileRefused:
    size = MAXIMUM_BYTES >> 20
    return FileRefused("file_too_large", f"The table is larger than {size} MiB; send it in several files.")


# ---- workbooks


def _workbook(path: Path) -> list[Grid]:
    offset = _check_package(path)
    grids = []
    try:
        reader = fastexcel.read_excel(path)
        for number, name in enumerate(reader.sheet_names, start=1):
            # Rows above the first used one are kept, so that row numbers are those the site sees.
            sheet = reader.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
            cells = sheet.with_columns(pl.all().cast(pl.String).fill_null(""))
            grids.append(Grid([list(row) for row in cells.iter_rows()], name, number, True, offset))
    except fastexcel.FastExcelError as error:
        raise _damaged_workbook() from error
    except BaseException as error:
        # A crash inside the workbook reader arrives as an exception of its own kind, outside `Exception`.
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged_workbook() from error
    if not grids:
        raise FileRefused("empty_file", "The workbook has no sheet; export the table again and send it.")
    return grids


def _damaged_workbook() -> FileRefused:
    return FileRefused(
        "damaged_workbook",
        "The workbook is damaged, incomplete or protected by a password; save it again without one and send it.",
    )


def _check_package(path: Path) -> int:
    """Days to add to a bare date number of this workbook.

    Raises
    ------
    FileRefused
        It would unpack to more than a table may be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > 4 * MAXIMUM_BYTES:
                raise _too_large()
            start = archive.read("xl/workbook.xml")[:20000]
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
        return 0  # another workbook format, or damaged: the reader of the workbook says which
    return DAYS_1904 if re.search(rb'date1904="(1|true)"', start) else 0


# ---- text


def decode(data: bytes, encoding: str | None) -> str:
    """Text of a file: by its byte order mark, else the encoding given, else UTF-8, UTF-16 without a mark, Windows."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, errors="replace")
    if encoding is None:
        start = data[:4096]
        if start.count(0) > len(start) / 4:
            # Latin script in UTF-16: every second byte is zero; which one tells the byte order.
            encoding = "utf-16-le" if start[1::2].count(0) >= start[0::2].count(0) else "utf-16-be"
        else:
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError:
                encoding = "cp1252"
    elif encoding == "utf-16":
        encoding = "utf-16-le"
    return data.decode(encoding, errors="replace")


def _text_grid(path: Path, profile: Profile) -> Grid:
    text = decode(path.read_bytes(), profile.encoding).replace("\0", "")
    start = text[:4096]
    control = sum(ord(c) < 32 and c not in "\t\r\n\f\v" for c in start)
    if control > len(start) / 50:
        raise FileRefused(
            "not_text", "The file is not a text table; export it as CSV and send it.", path.suffix.lower() != ".txt"
        )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    separator = profile.separator
    # Excel's own way to name the separator.
    if lines[0].casefold().startswith("sep=") and len(lines[0]) == 5:
        separator = separator or lines[0][4:]
        lines[0] = ""
    return Grid(_records(lines, separator or _separator(lines, profile)))


def _separator(lines: list[str], profile: Profile) -> str:
    """The separator under which most column names of the profile are found; else that which splits most."""
    start = [line for line in lines if line.strip()][:HEADER_ROWS]
    entities = [profile.columns_of(entity).keys() for entity in profile.entities]

    def score(separator: str) -> tuple[int, int]:
        rows = _records(start, separator)
        found = [{normal(cell) for cell in row} for row in rows]
        known = max((len(names & columns) for names in found for columns in entities), default=0)
        return known, max((len(row) for row in rows), default=0)

    return max(SEPARATORS, key=score)


def _records(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into cells, so that a stray quote spoils its own line and not the rest of the file."""
    width = _usual_width(lines, separator) if any(line.count('"') % 2 for line in lines) else 0
    records: list[list[str]] = []
    index = 0
    while index < len(lines):
        row, taken = _joined(lines, index, separator, width) or (_cells(lines[index], separator), 1)
        records.append(row if any(cell.strip() for cell in row) else [])
        index += taken
    return records


def _cells(line: str, separator: str) -> list[str]:
    """Cells of a line that stands alone; an unpaired quote is taken as it stands."""
    if '"' not in line or line.count('"') % 2 or len(line) > csv.field_size_limit():
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _usual_width(lines: list[str], separator: str) -> int:
    widths: dict[int, int] = {}
    for line in lines[:1000]:
        if line.strip() and not line.count('"') % 2:
            width = len(_cells(line, separator))
            widths[width] = widths.get(width, 0) + 1
    return max(widths, key=lambda width: widths[width], default=0)


def _joined(lines: list[str], index: int, separator: str, width: int) -> tuple[list[str], int] | None:
    """A quoted cell that runs over several lines: the record and how many lines it takes, or None."""
    if not lines[index].count('"') % 2:
        return None
    for last in range(index + 1, min(index + QUOTED_LINES, len(lines))):
        if lines[last].count('"') % 2 == 0:
            continue
        text = "\n".join(lines[index : last + 1])
        if len(text) > csv.field_size_limit():
            return None
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        return (rows[0], last + 1 - index) if len(rows) == 1 and len(rows[0]) == width else None
    return None
