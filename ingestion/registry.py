"""Reading registry tables: a site's CSV and XLSX files become rows of the dictionary, or refusals with a reason.

Here: finding out encoding, separator, header row and entity; turning a site's words into values. Not here: what a site
calls things (`ingestion.profile`) or whether a readable value is right (`qa.variables`). Identifiers end here: they go
to the pseudonym table and into no result, and no reason repeats what a cell said unless it is a short code.
"""

from __future__ import annotations

import codecs
import csv
import fnmatch
import io
import logging
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fastexcel
import polars as pl

from ingestion.profile import SEPARATORS, Column, Profile, normal
from warehouse.dictionary import Entity, Variable, load_dictionary
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import schema_of

LOGGER = logging.getLogger(__name__)

WORKBOOK_ENDINGS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
TEXT_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt"})
MAXIMUM_BYTES = 2 << 30
"""A registry table larger than 2 GiB is not one; reading it would take the machine down."""
HEADER_ROWS = 10
"""The header is looked for in the first rows, because sites put titles above it."""
QUOTED_LINES = 50
"""A quoted cell may run over this many lines; beyond, the quote is taken for a stray character."""
REFUSAL_SCHEMA = schema_of("raw_registry__refusal")

MISSING_PATIENT = "missing_patient_id"
WRONG_COUNT = "wrong_column_count"


@dataclass(frozen=True)
class RegistryFile:
    """A file to be read as a registry table."""

    path: Path
    file_number: int


@dataclass(frozen=True)
class RegistryFate:
    """What became of a file: `is_table` is false when it is a text file without anything of a table."""

    status: str
    reason_code: str | None = None
    reason: str | None = None
    entities: tuple[str, ...] = ()
    rows_count: int = 0
    refused_count: int = 0
    is_table: bool = True


@dataclass
class RegistryResult:
    """Rows by entity, refused rows, and the fate of each file by its number."""

    tables: dict[str, pl.DataFrame]
    refusals: pl.DataFrame
    files: dict[int, RegistryFate]


class _FileRefused(Exception):
    """A file as a whole cannot be read."""

    def __init__(self, reason_code: str, reason: str, is_table: bool = True) -> None:
        super().__init__(reason)
        self.fate = RegistryFate("refused", reason_code, reason, is_table=is_table)


@dataclass(frozen=True)
class _Grid:
    """Cells as texts. `rows[i]` is row `i + 1` of the source, blank rows included as empty lists."""

    rows: list[list[str]]
    sheet: str | None = None
    is_workbook: bool = False
    day_offset: int = 0
    """Days to add to a bare date number: 1462 in workbooks that count from 1904."""


@dataclass(frozen=True)
class _Match:
    """How a grid fits an entity."""

    entity: str
    header_index: int
    positions: dict[str, tuple[int, Column]] = field(default_factory=dict)
    """Variable -> (column position, how it is read)."""
    is_named: bool = False
    duplicated: str | None = None
    unknown_count: int = 0

    @property
    def has_patient(self) -> bool:
        return "patient_id" in self.positions

    @property
    def is_table(self) -> bool:
        return self.has_patient and len(self.positions) >= 2

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        return self.is_table, self.is_named, len(self.positions), -self.unknown_count


def is_candidate(path: Path) -> bool:
    """Whether a file's ending says that it may be a registry table."""
    return path.suffix.lower() in WORKBOOK_ENDINGS | TEXT_ENDINGS


def read_registry(
    files: Sequence[RegistryFile],
    profile: Profile,
    pseudonyms: Pseudonyms,
    site_code: str,
    delivery_key: str,
) -> RegistryResult:
    """Read registry files into rows of the lake.

    Every row that is not blank either enters its entity's table, without identifiers and with the subject's key, or
    becomes exactly one refusal. Nothing in one row or file affects another.

    Returns
    -------
    RegistryResult
        `tables` has a frame with the lake's columns for each entity found; `files` one fate per file given.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    refusals: list[pl.DataFrame] = []
    fates: dict[int, RegistryFate] = {}
    for file in files:
        try:
            fate = _read_file(file, profile, pseudonyms, site_code, delivery_key, parts, refusals)
        except _FileRefused as refused:
            fate = refused.fate
        fates[file.file_number] = fate
        LOGGER.info(
            "registry file %d: %s, %d rows, %d refused",
            file.file_number,
            fate.status,
            fate.rows_count,
            fate.refused_count,
        )
    return RegistryResult(
        {entity: pl.concat(frames) for entity, frames in parts.items()},
        pl.concat(refusals) if refusals else pl.DataFrame(schema=REFUSAL_SCHEMA),
        fates,
    )


def _read_file(
    file: RegistryFile,
    profile: Profile,
    pseudonyms: Pseudonyms,
    site_code: str,
    delivery_key: str,
    parts: dict[str, list[pl.DataFrame]],
    refusals: list[pl.DataFrame],
) -> RegistryFate:
    matched: list[tuple[_Grid, _Match]] = []
    failed: list[_FileRefused] = []
    grids = _grids(file.path, profile)
    for grid in grids:
        try:
            matched.append((grid, _choose(grid, file.path, profile)))
        except _FileRefused as refused:
            failed.append(refused)
    if not matched:
        # A workbook's first sheet that is not blank speaks for the file.
        raise next((f for f in failed if f.fate.reason_code != "empty_file"), failed[0])
    rows_count = refused_count = unknown_count = 0
    used: dict[str, int] = {}
    for grid, match in matched:
        used[match.entity] = used.get(match.entity, 0) + 1
        suffix = f"s{used[match.entity]}" if used[match.entity] > 1 else ""
        reader = _TableReader(file.file_number, profile, pseudonyms, site_code, delivery_key, suffix)
        accepted, refused_rows = reader.read(grid, match)
        parts.setdefault(match.entity, []).append(accepted)
        refusals.append(refused_rows)
        rows_count += accepted.height + refused_rows.height
        refused_count += refused_rows.height
        unknown_count += match.unknown_count
    notes = []
    if unknown_count:
        notes.append(f"{unknown_count} column(s) are not in the source profile and were left out")
    left = sum(f.fate.reason_code != "empty_file" for f in failed)
    if left:
        notes.append(f"{left} sheet(s) hold no registry table and were left out")
    reason = "; ".join(notes)
    return RegistryFate(
        "accepted",
        "partly_used" if notes else None,
        reason[0].upper() + reason[1:] if reason else None,
        tuple(dict.fromkeys(match.entity for _, match in matched)),
        rows_count,
        refused_count,
    )


# ---- from bytes to cells


def _grids(path: Path, profile: Profile) -> list[_Grid]:
    try:
        size = path.stat().st_size
        if size == 0:
            raise _FileRefused("empty_file", "The file is empty; export the table again and send it.")
        if size > MAXIMUM_BYTES:
            raise _FileRefused("file_too_large", "The file is larger than 2 GiB; send the table in several files.")
        if path.suffix.lower() in WORKBOOK_ENDINGS:
            return _workbook(path)
        return [_text_grid(path, profile)]
    except OSError as error:
        raise _FileRefused(
            "unreadable_file", "The file cannot be opened; check its permissions and send it again."
        ) from error


def _workbook(path: Path) -> list[_Grid]:
    offset = 1462 if _counts_from_1904(path) else 0
    try:
        reader = fastexcel.read_excel(path)
        names = reader.sheet_names
        grids = []
        for name in names:
            sheet = reader.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
            cells = sheet.with_columns(pl.all().cast(pl.String).fill_null(""))
            grids.append(_Grid([list(row) for row in cells.iter_rows()], name, True, offset))
    except fastexcel.FastExcelError as error:
        raise _FileRefused(
            "damaged_workbook",
            "The workbook is damaged, incomplete or protected by a password; save it again without one and send it.",
        ) from error
    if not grids:
        raise _FileRefused("empty_file", "The workbook has no sheet; export the table again and send it.")
    return grids


def _counts_from_1904(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            start = archive.read("xl/workbook.xml")[:20000]
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError):
        return False  # another workbook format, or damaged: the reader of the workbook says which
    return re.search(rb'date1904="(1|true)"', start) is not None


def decode(data: bytes, encoding: str | None) -> str:
    """Text of a file: by its byte order mark, else the encoding given, else UTF-8, UTF-16 without a mark, Windows."""
    marks = [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ]
    for mark, name in marks:
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


def _text_grid(path: Path, profile: Profile) -> _Grid:
    data = path.read_bytes()
    text = decode(data, profile.encoding).replace("\0", "")
    control = sum(ord(c) < 32 and c not in "\t\r\n\f\v" for c in text[:4096])
    if control > len(text[:4096]) / 50:
        raise _FileRefused(
            "not_text", "The file is not a text table; export it as CSV and send it.", path.suffix.lower() != ".txt"
        )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    separator = profile.separator
    if lines and lines[0].casefold().startswith("sep=") and len(lines[0]) == 5:
        separator = separator or lines[0][4:]
        lines[0] = ""
    return _Grid(_records(lines, separator or _separator(lines, profile)))


def _separator(lines: list[str], profile: Profile) -> str:
    """The separator under which most column names of the profile are found; else that which splits most."""
    start = [line for line in lines if line.strip()][:HEADER_ROWS]
    best, best_score = ",", (-1, -1)
    for separator in SEPARATORS:
        rows = _records(start, separator)
        known = max((_best_match(row, "", profile)[0] for row in rows), default=0)
        score = (known, max((len(row) for row in rows), default=0))
        if score > best_score:
            best, best_score = separator, score
    return best


def _best_match(header: list[str], stem: str, profile: Profile) -> tuple[int, str]:
    names = {normal(cell) for cell in header if cell.strip()}
    return max((len(names & profile.columns_of(entity).keys()), entity) for entity in profile.entities)


def _records(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into cells, so that a stray quote spoils its own line and not the rest of the file."""
    if not any(line.count('"') % 2 for line in lines):
        return (
            [_cells([line], separator)[0] if line.strip() else [] for line in lines]
            if _has_long(lines)
            else [row if any(cell.strip() for cell in row) else [] for row in _cells(lines, separator)]
        )
    width = _usual_width(lines, separator)
    records: list[list[str]] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        taken = 1
        if line.count('"') % 2:
            record = _joined(lines, index, separator, width)
            if record is None:
                row = line.split(separator)
            else:
                row, taken = record
        else:
            row = _cells([line], separator)[0] if line.strip() else []
        records.append(row if any(cell.strip() for cell in row) else [])
        index += taken
    return records


def _has_long(lines: list[str]) -> bool:
    return any(len(line) > csv.field_size_limit() for line in lines)


def _cells(lines: list[str], separator: str) -> list[list[str]]:
    """Cells of lines that each stand alone."""
    if _has_long(lines):
        return [line.split(separator) for line in lines]
    rows: list[list[str]] = []
    for line in lines:
        parsed = list(csv.reader([line], delimiter=separator)) if '"' in line else [line.split(separator)]
        rows.append(parsed[0] if parsed else [])
    return rows


def _usual_width(lines: list[str], separator: str) -> int:
    widths: dict[int, int] = {}
    for line in lines[:1000]:
        if line.strip() and not line.count('"') % 2:
            width = len(_cells([line], separator)[0])
            widths[width] = widths.get(width, 0) + 1
    return max(widths, key=lambda w: widths[w], default=0)


def _joined(lines: list[str], index: int, separator: str, width: int) -> tuple[list[str], int] | None:
    """A quoted cell that runs over several lines: the record and how many lines it takes, or None."""
    for last in range(index + 1, min(index + QUOTED_LINES, len(lines))):
        if lines[last].count('"') % 2 == 0:
            continue
        text = "\n".join(lines[index : last + 1])
        if len(text) > csv.field_size_limit():
            return None
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        return (rows[0], last + 1 - index) if len(rows) == 1 and len(rows[0]) == width else None
    return None


# ---- from cells to an entity


def _choose(grid: _Grid, path: Path, profile: Profile) -> _Match:
    """The entity a grid holds.

    Raises
    ------
    _FileRefused
        No entity's columns are there, or two fit equally well; the text names the nearest one and what to do.
    """
    candidates = [index for index, row in enumerate(grid.rows) if row][:HEADER_ROWS]
    if not candidates:
        raise _FileRefused("empty_file", "The table is empty; export it again and send it.")
    matches = [_match(grid, index, entity, path, profile) for index in candidates for entity in profile.entities]
    best = max(matches, key=lambda match: match.rank)
    is_text = path.suffix.lower() == ".txt"
    if not best.positions:
        looks_like_table = any(len(grid.rows[index]) > 1 for index in candidates) and not (
            is_text and not best.is_named
        )
        raise _FileRefused(
            "unknown_table",
            f"None of its columns is in the source profile {profile.name!r}; send one of the tables "
            f"{', '.join(profile.entities)} with the agreed column names, or ask the data manager to add the columns.",
            looks_like_table,
        )
    if not best.is_table:
        wanted = _names_for(best.entity, "patient_id", profile) if not best.has_patient else None
        lacking = f"a column for patient_id (named {wanted})" if wanted else "a column beside the patient's identifier"
        raise _FileRefused(
            "missing_column",
            f"The nearest table is {best.entity} ({len(best.positions)} column(s) known), but it lacks {lacking}; "
            "add it and send the file again.",
            not is_text or best.is_named or len(best.positions) > 1,
        )
    if best.duplicated:
        raise _FileRefused(
            "duplicate_column",
            f"Two columns of this {best.entity} table mean {best.duplicated}; keep one of them and send the file again.",
        )
    equal = {match.entity for match in matches if match.rank == best.rank}
    if len(equal) > 1:
        raise _FileRefused(
            "ambiguous_table",
            f"Its columns fit {' and '.join(sorted(equal))} equally well; put the table's name into the file name.",
        )
    return best


def _names_for(entity: str, variable: str, profile: Profile) -> str:
    names = [source for source, column in profile.entities[entity].columns.items() if column.variable == variable]
    if profile.own_names:
        names.append(variable)
    return " or ".join(dict.fromkeys(names))


def _match(grid: _Grid, index: int, entity: str, path: Path, profile: Profile) -> _Match:
    known = profile.columns_of(entity)
    positions: dict[str, tuple[int, Column]] = {}
    duplicated = None
    unknown = 0
    for position, cell in enumerate(grid.rows[index]):
        name = normal(cell)
        column = known.get(name)
        if column is None:
            unknown += bool(name)
        elif column.variable in positions:
            duplicated = column.variable
        else:
            positions[column.variable] = (position, column)
    table = profile.entities[entity]
    is_named = _any_fits(path.stem, table.files) or (grid.sheet is not None and _any_fits(grid.sheet, table.sheets))
    return _Match(entity, index, positions, is_named, duplicated, unknown)


def _any_fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


# ---- from cells to values

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
TIME_PART = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z?$"
EXCEL_EPOCH = pl.date(1899, 12, 30)


@dataclass(frozen=True)
class _TableReader:
    """Reads one grid of one file as one entity."""

    file_number: int
    profile: Profile
    pseudonyms: Pseudonyms
    site_code: str
    delivery_key: str
    suffix: str
    """Distinguishes row keys where one workbook has several sheets of an entity."""

    def read(self, grid: _Grid, match: _Match) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(rows for the lake, refusals): together every row below the header that is not blank."""
        entity = load_dictionary().entities[match.entity]
        raw, miscounted = self._rows(grid, match)
        values, problems = self._convert(raw, entity, match, grid)
        is_good = problems.get_column("reason_code").is_null()
        accepted = self._lake_rows(raw.filter(is_good), values.filter(is_good), entity)
        refused = problems.filter(~is_good)
        wrong = pl.DataFrame(
            {
                "source_row": miscounted,
                "variable": [None] * len(miscounted),
                "reason_code": [WRONG_COUNT] * len(miscounted),
                "reason": [
                    "The row does not have as many cells as the header has columns; look for a separator or quote "
                    "inside a cell."
                ]
                * len(miscounted),
            },
            schema={name: REFUSAL_SCHEMA[name] for name in refused.columns},
        )
        refused = pl.concat([refused, wrong]).sort("source_row").with_columns(self._provenance(match.entity))
        refused = refused.with_columns(pl.lit(match.entity).alias("entity"))
        return accepted, refused.select([pl.col(n).cast(t) for n, t in REFUSAL_SCHEMA.items()])

    def _provenance(self, entity: str) -> list[pl.Expr]:
        start = f"{self.delivery_key}-{entity}-{self.file_number}-"
        return [
            pl.lit(self.site_code).alias("site_code"),
            pl.lit(self.delivery_key).alias("delivery_key"),
            pl.lit(self.file_number, dtype=pl.Int32).alias("file_number"),
            pl.concat_str(pl.lit(start), pl.col("source_row").cast(pl.String), pl.lit(self.suffix)).alias("row_key"),
        ]

    def _rows(self, grid: _Grid, match: _Match) -> tuple[pl.DataFrame, list[int]]:
        """The matched cells as texts with their row numbers, and the numbers of rows with the wrong count of cells."""
        header = grid.rows[match.header_index]
        width = len(header)
        numbers: list[int] = []
        kept: list[list[str]] = []
        miscounted: list[int] = []
        for index in range(match.header_index + 1, len(grid.rows)):
            row = grid.rows[index]
            if not any(cell.strip() for cell in row):
                continue
            # Spreadsheets leave empty cells behind the last column; those are no sign of a broken row.
            if len(row) < width or any(cell.strip() for cell in row[width:]):
                miscounted.append(index + 1)
                continue
            numbers.append(index + 1)
            kept.append(row)
        columns = {"source_row": pl.Series("source_row", numbers, dtype=pl.Int32)}
        for variable, (position, _) in match.positions.items():
            columns[variable] = pl.Series(variable, [row[position] for row in kept], dtype=pl.String)
        return pl.DataFrame(columns), miscounted

    def _convert(
        self, raw: pl.DataFrame, entity: Entity, match: _Match, grid: _Grid
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Typed values, and per row the first problem (null where there is none)."""
        identifiers = self._identifier_words(raw, entity, match)
        values: dict[str, pl.Series] = {"source_row": raw.get_column("source_row")}
        bad: list[tuple[str, str, pl.Series, pl.Series]] = []
        for variable in entity.variables:
            if variable.name not in match.positions:
                constant = self.profile.entities[entity.name].constants.get(variable.name)
                texts = pl.Series(variable.name, [constant] * raw.height, dtype=pl.String)
                column = Column(variable=variable.name)
            else:
                column = match.positions[variable.name][1]
                texts = self._cleaned(raw.get_column(variable.name), column)
            typed = self._typed(texts, variable, column, grid)
            values[variable.name] = typed
            is_bad = texts.is_not_null() & typed.is_null()
            if is_bad.any():
                code = _REASON_CODE[variable.type]
                bad.append((variable.name, code, is_bad, self._reason(texts, is_bad, variable, column, identifiers)))
        if raw.height and (lacking := values["patient_id"].is_null()).any():
            text = "The patient's identifier is missing; fill it in and send the row again."
            bad.insert(0, ("patient_id", MISSING_PATIENT, lacking, pl.Series([text] * raw.height, dtype=pl.String)))
        return pl.DataFrame(values), _problems(raw, bad)

    def _cleaned(self, cells: pl.Series, column: Column) -> pl.Series:
        """Stripped texts, mapped codes applied, words for "missing" as null."""
        words = [normal(word) for word in (*self.profile.missing, *column.missing, "")]
        mapped = {normal(code): value for code, value in column.values.items()}
        frame = pl.DataFrame({"text": cells.str.strip_chars(" \t\r\n\u00a0\ufeff")})
        key = pl.col("text").str.normalize("NFC").str.to_lowercase().str.replace_all(r"[\s_]+", " ").str.strip_chars()
        frame = frame.with_columns(key.alias("key"))
        return frame.select(
            pl.when(pl.col("key").is_in(list(mapped)))
            .then(pl.col("key").replace_strict(mapped, default=None, return_dtype=pl.String))
            .when(pl.col("key").is_in(words))
            .then(None)
            .otherwise(pl.col("text"))
            .alias(cells.name)
        ).to_series()

    def _typed(self, texts: pl.Series, variable: Variable, column: Column, grid: _Grid) -> pl.Series:
        """Values of the variable's type; null where the text is not one."""
        frame = pl.DataFrame({"text": texts})
        text = pl.col("text")
        if variable.type == "string":
            typed = text
        elif variable.type == "code":
            codes = {normal(code): code for code in variable.codes or {}}
            key = text.str.to_lowercase().str.replace_all(r"[\s_]+", " ").str.strip_chars()
            typed = key.replace_strict(codes, default=None, return_dtype=pl.String)
        elif variable.type == "boolean":
            words = {normal(word): True for word in self.profile.true_values}
            words |= {normal(word): False for word in self.profile.false_values}
            typed = text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
        elif variable.type == "date":
            typed = self._date(text, column, grid)
        else:
            typed = self._number(text, variable, column)
        return frame.select(typed.alias(variable.name)).to_series()

    def _number(self, text: pl.Expr, variable: Variable, column: Column) -> pl.Expr:
        comma = self.profile.decimal_comma if column.decimal_comma is None else column.decimal_comma
        if comma:
            # `1.234,5`: with a decimal comma, points before it separate thousands. A plain `2.5` stays 2.5.
            text = (
                pl.when(text.str.contains(",", literal=True))
                .then(text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True))
                .otherwise(text)
            )
        number = pl.when(text.str.contains(NUMBER)).then(text).cast(pl.Float64, strict=False)
        number = number * column.factor if column.factor != 1.0 else number
        number = pl.when(number.is_finite()).then(number)
        if variable.type == "integer":
            whole = pl.when((number == number.round()) & (number.abs() < 2.0**53)).then(number)
            return whole.cast(pl.Int64, strict=False)
        return number

    def _date(self, text: pl.Expr, column: Column, grid: _Grid) -> pl.Expr:
        day = text.str.replace(TIME_PART, "")
        tries = []
        for form in column.date_formats or self.profile.date_formats:
            # A month or year alone means its first day: the reader needs all three parts.
            prefix = "".join(f"{part} " for part, given in (("01", "%d"), ("01", "%m")) if given not in _parts(form))
            pattern = "".join(f"{given} " for given in ("%d", "%m") if given not in _parts(form)) + form
            shaped = pl.when(day.str.contains(_shape(form))).then(day)
            tries.append(pl.concat_str(pl.lit(prefix), shaped).str.to_date(pattern, strict=False, exact=True))
        if grid.is_workbook:
            # A true date cell arrives as ISO text whatever the sheet shows; a bare number counts days.
            tries.insert(0, pl.when(day.str.contains(r"^\d{4}-\d{2}-\d{2}$")).then(day).str.to_date(strict=False))
            number = pl.when(text.str.contains(r"^\d{5}(\.\d+)?$")).then(text).cast(pl.Float64, strict=False)
            days = number.floor().cast(pl.Int64) + grid.day_offset
            tries.append(EXCEL_EPOCH + pl.duration(days=days))
        found = pl.coalesce(tries)
        return pl.when(found.dt.year().is_between(1800, 2200)).then(found)

    def _identifier_words(self, raw: pl.DataFrame, entity: Entity, match: _Match) -> set[str]:
        """Everything that stands in a column of identifiers: never repeated in a reason."""
        names = [v.name for v in entity.variables if v.is_identifier and v.name in match.positions]
        return {normal(cell) for name in names for cell in raw.get_column(name).unique().to_list()}

    def _reason(
        self, texts: pl.Series, is_bad: pl.Series, variable: Variable, column: Column, identifiers: set[str]
    ) -> pl.Series:
        name = variable.name
        if variable.type == "date":
            forms = ", ".join(column.date_formats or self.profile.date_formats)
            text = f"{name} is not a date of the form {forms}; correct it and send the row again."
        elif variable.type in ("integer", "decimal"):
            kind = "a whole number" if variable.type == "integer" else "a number"
            text = f"{name} is not {kind}; correct it and send the row again."
        elif variable.type == "boolean":
            yes, no = self.profile.true_values, self.profile.false_values
            text = f"{name} is neither {'/'.join(yes)} nor {'/'.join(no)}; correct it and send the row again."
        else:
            return _code_reasons(texts, is_bad, variable, column, identifiers)
        return pl.Series([text] * texts.len(), dtype=pl.String)

    def _lake_rows(self, raw: pl.DataFrame, values: pl.DataFrame, entity: Entity) -> pl.DataFrame:
        patients = values.get_column("patient_id").to_list()
        distinct = list(dict.fromkeys(patients))
        keys = self.pseudonyms.keys("subject", self.site_code, [(patient,) for patient in distinct])
        by_patient = dict(zip(distinct, keys, strict=True))
        subjects = [by_patient[patient] for patient in patients]
        if entity.name == "patient":
            self._note_identities(values, subjects)
        rows = values.with_columns(pl.Series("subject_key", subjects, dtype=pl.String))
        rows = rows.with_columns(self._provenance(entity.name))
        schema = schema_of(f"raw_registry__{entity.name}")
        return rows.select([pl.col(name).cast(kind) for name, kind in schema.items()])

    def _note_identities(self, values: pl.DataFrame, subjects: list[str]) -> None:
        """Keyed hash of name, sex and birth date, where all are given: the minimum dataset that rule R18 compares."""
        noted = []
        columns = ["family_name", "given_name", "sex", "birth_date"]
        for subject, row in zip(subjects, values.select(columns).iter_rows(), strict=True):
            if all(cell is not None for cell in row):
                family, given, sex, birth = row
                person = (name_key(family), name_key(given), sex, birth.isoformat())
                if person[0] and person[1]:
                    noted.append((self.pseudonyms.hash("identity", *person), subject))
        self.pseudonyms.note_identity(self.site_code, noted)


_REASON_CODE = {
    "string": "unreadable_text",
    "code": "unknown_code",
    "integer": "unreadable_number",
    "decimal": "unreadable_number",
    "boolean": "unreadable_boolean",
    "date": "unreadable_date",
}
_DIRECTIVE_SHAPE = {
    "%d": r"\d{1,2}",
    "%m": r"\d{1,2}",
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    "%b": r"[A-Za-z]{3}",
    "%B": r"[A-Za-z]+",
}


def _parts(form: str) -> set[str]:
    return {"%m" if part in ("%b", "%B") else part for part in re.findall(r"%.", form)}


def _shape(form: str) -> str:
    """A pattern of the texts a date format means: polars alone would take `20` as `%Y`."""
    pieces = re.split(r"(%.)", form)
    return "^" + "".join(_DIRECTIVE_SHAPE.get(piece, re.escape(piece)) for piece in pieces) + "$"


def name_key(name: str) -> str:
    """A name as it is compared: letters only, without accents and case."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if letter.isalpha())


def _code_reasons(
    texts: pl.Series, is_bad: pl.Series, variable: Variable, column: Column, identifiers: set[str]
) -> pl.Series:
    """Reasons of unknown codes. A code is repeated only when it is too short to be anything but a code."""
    known = list(dict.fromkeys([*column.values, *(variable.codes or {})]))
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    reasons: list[str | None] = []
    for text, bad in zip(texts.to_list(), is_bad.to_list(), strict=True):
        if not bad:
            reasons.append(None)
            continue
        is_short = re.fullmatch(r"[0-9]{1,3}|[A-Za-z]{1,2}", text) is not None and normal(text) not in identifiers
        code = f"code {text} of {variable.name}" if is_short else f"code of {variable.name}"
        reasons.append(f"The {code} is not known (known: {shown}); correct it, or ask for it to be added.")
    return pl.Series(reasons, dtype=pl.String)


def _problems(raw: pl.DataFrame, bad: list[tuple[str, str, pl.Series, pl.Series]]) -> pl.DataFrame:
    """One row per source row: the first problem in dictionary order, and how many more there are."""
    problems = pl.DataFrame(
        {
            "source_row": raw.get_column("source_row"),
            "variable": pl.Series([None] * raw.height, dtype=pl.String),
            "reason_code": pl.Series([None] * raw.height, dtype=pl.String),
            "reason": pl.Series([None] * raw.height, dtype=pl.String),
            "more": pl.Series([-1] * raw.height, dtype=pl.Int32),
        }
    )
    for name, code, is_bad, reasons in bad:
        first = is_bad & problems.get_column("reason_code").is_null()
        problems = problems.with_columns(
            pl.when(first).then(pl.lit(name)).otherwise("variable").alias("variable"),
            pl.when(first).then(pl.lit(code)).otherwise("reason_code").alias("reason_code"),
            pl.when(first).then(reasons).otherwise("reason").alias("reason"),
            (pl.col("more") + is_bad.cast(pl.Int32)).alias("more"),
        )
    more = pl.concat_str("reason", pl.lit(" Cells of this row that cannot be read besides: "), pl.col("more"))
    return problems.with_columns(
        pl.when(pl.col("more") > 0).then(pl.concat_str(more, pl.lit("."))).otherwise("reason").alias("reason")
    ).drop("more")
