"""From bytes to cells: what encoding and separator a text table has, and which files are no text at all.

Here: decoding, splitting lines; every file gives grids of texts or one refusal. Not here: opening workbooks and Parquet
files (`packed`), or what the cells mean (`match`, `convert`).
"""

from __future__ import annotations

import codecs
import csv
import io
from itertools import islice
from pathlib import Path

from ingestion.packed_process import MAXIMUM_BYTES, MAXIMUM_CELLS
from ingestion.profile import SEPARATORS, Profile, Table, normal
from ingestion.registry.model import FileRefused, Grid
from ingestion.registry.packed import (
    PACKED_STARTS,
    WORKBOOK_ENDINGS,
    damaged_workbook,
    packed_grids,
)

TEXT_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt"})
TABLE_ENDINGS = TEXT_ENDINGS | WORKBOOK_ENDINGS | {".parquet"}
HEADER_ROWS = 10
"""The header is looked for in the first rows, because sites put titles above it."""
QUOTED_LINES = 50
"""A quoted cell may run over this many lines; beyond, the quote is taken for a stray character."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
HEADER_LENGTH = 100_000
"""Characters of a line that are looked at for a separator."""
PAGE_STARTS = ("<html", "<!doctype", "<table", "<?xml", "<meta", "<style")
"""How a web page or an XML table begins; many systems save one under the ending of a workbook."""


def read_grids(path: Path, profile: Profile) -> list[Grid]:
    """The grids of a file: one per sheet of a workbook, one for a text file or a Parquet file.

    Its first bytes say what a file is: a workbook that was saved as `.csv` is read as a workbook, and a text table
    with the ending of a workbook as text.

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
        with path.open("rb") as handle:
            start = handle.read(16)
        if start.startswith(PACKED_STARTS):
            return packed_grids(path)
        return [_text_grid(path, profile)]
    except PermissionError as error:
        raise FileRefused(
            "unreadable_file", "The file cannot be opened; check its permissions and send it again."
        ) from error


def _too_large() -> FileRefused:
    size, cells = MAXIMUM_BYTES >> 20, MAXIMUM_CELLS // 1_000_000
    return FileRefused(
        "file_too_large",
        f"The table is larger than {size} MiB or {cells} million cells, empty ones included; send it in several files.",
    )


# ---- text


def decode(data: bytes, encoding: str | None) -> str:
    """Text of a file: by its byte order mark, else the encoding given, else UTF-8, UTF-16 without a mark, Windows.

    Bytes that are no text become U+FFFD, for which their cell is refused.
    """
    for mark, name in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, errors="replace")
    if encoding is not None:
        return data.decode("utf-16-le" if encoding == "utf-16" else encoding, errors="replace")
    start = data[:4096]
    if start.count(0) > len(start) / 4:
        # Latin script in UTF-16: every second byte is zero; which one tells the byte order.
        is_little = start[1::2].count(0) >= start[0::2].count(0)
        return data.decode("utf-16-le" if is_little else "utf-16-be", errors="replace")
    text = data.decode("utf-8", errors="replace")
    bad = text.count("\ufffd")
    # A few broken bytes among accented letters are damage, and not another encoding.
    if bad == 0 or sum(ord(letter) > 127 for letter in text) > 2 * bad:
        return text
    return data.decode("cp1252", errors="replace")


def _text_grid(path: Path, profile: Profile) -> Grid:
    text = decode(path.read_bytes(), profile.encoding)
    is_workbook = path.suffix.lower() in WORKBOOK_ENDINGS
    start = text[:4096]
    control = sum((ord(c) < 32 and c not in "\t\r\n\f\v") or c == "\ufffd" for c in start)
    if control > len(start) / 50:
        if is_workbook:
            raise damaged_workbook()
        raise FileRefused(
            "not_text", "The file is not a text table; export it as CSV and send it.", path.suffix.lower() != ".txt"
        )
    if start.lstrip().casefold().startswith(PAGE_STARTS):
        raise FileRefused(
            "web_page",
            "The file is a web page or XML under another ending; open it in a spreadsheet program, save it as XLSX or "
            "CSV and send that.",
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > MAXIMUM_CELLS // 5:
        raise _too_large()
    lines = text.split("\n")
    separator = profile.separator
    # Excel's own way to name the separator.
    if lines[0].casefold().startswith("sep=") and len(lines[0]) == 5:
        separator = separator or lines[0][4:]
        lines[0] = ""
    separator = separator or _separator(lines, profile)
    if text.count(separator) + len(lines) > MAXIMUM_CELLS:
        raise _too_large()
    return Grid(_records(lines, separator))


def _separator(lines: list[str], profile: Profile) -> str:
    """The separator under which most column names of the profile are found; else that which splits most."""
    start = [line[:HEADER_LENGTH] for line in islice((line for line in lines if line.strip()), HEADER_ROWS)]
    entities = [_names(entity, table, profile) for entity, tables in profile.entities.items() for table in tables]

    def score(separator: str) -> tuple[int, int]:
        rows = _records(start, separator)
        found = [{normal(cell) for cell in row} for row in rows]
        known = max((len(names & columns) for names in found for columns in entities), default=0)
        return known, max((len(row) for row in rows), default=0)

    return max(SEPARATORS, key=score)


def _names(entity: str, table: Table, profile: Profile) -> set[str]:
    """Every column name that a table of the profile knows."""
    names = {*profile.columns_of(entity, table), *(normal(name) for name in table.where)}
    return names | ({normal(table.long.test), normal(table.long.value)} if table.long else set())


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
