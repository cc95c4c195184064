"""From cells to rows: each row of a grid becomes a row of the lake or one refusal.

Here: which cells are a row, what is wrong with it, its keys, and the end of every identifier. Not here: reading one
column (`values`), the words of a reason (`reasons`), or records told in several rows (`fold`).
"""

from __future__ import annotations

import fnmatch
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from ingestion.profile import Column, Profile, normal
from ingestion.registry import reasons
from ingestion.registry.model import Grid, Match
from ingestion.registry.reasons import Problem
from ingestion.registry.values import ColumnReader, Reading
from warehouse.dictionary import Entity, Variable, load_dictionary
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import schema_of

REFUSAL_SCHEMA = schema_of("raw_registry__refusal")

DAY = Variable(name="dated", type="date", definition="Day of a row.", source="network", disclosure="plain")
"""How the column of a table's `dated` is read."""

Parts = dict[str, list[tuple[Column, pl.Series]]]
"""Variable -> the columns that stand for it, each with how it is read."""


@dataclass(frozen=True)
class TableRows:
    """What became of the rows of one grid that one table of the profile takes."""

    accepted: pl.DataFrame
    refused: pl.DataFrame
    dated: pl.Series
    """The day of each accepted row, where the table says which column tells it; null elsewhere."""
    taken: pl.Series
    """Numbers of the source rows that the table takes; its `where` and its ignored tests leave the others out."""


@dataclass
class _Raw:
    """Rows of a grid as texts, before anything is read."""

    numbers: pl.Series
    cells: dict[int, pl.Series]
    """Column position -> its cells."""
    miscounted: list[int] = field(default_factory=list)
    """Rows that do not have as many cells as the header has columns."""

    def column(self, position: int) -> pl.Series:
        return self.cells[position]

    def only(self, keep: pl.Series) -> _Raw:
        cells = {position: series.filter(keep) for position, series in self.cells.items()}
        return _Raw(self.numbers.filter(keep), cells, self.miscounted)


@dataclass(frozen=True)
class TableReader:
    """Reads one grid of one file as one table of the profile."""

    file_number: int
    profile: Profile
    pseudonyms: Pseudonyms
    site_code: str
    delivery_key: str
    suffix: str
    """Distinguishes row keys where one file has several tables of an entity."""
    with_miscounted: bool = True
    """Whether this table answers for rows with the wrong count of cells: one table per grid does."""

    def read(self, grid: Grid, match: Match) -> TableRows:
        """Rows for the lake and refusals: together every row below the header that is this table's and not blank."""
        entity = load_dictionary().entities[match.entity]
        raw = self._selected(_cells_below(grid, match), match)
        parts, problems, raw = self._parts(raw, match, entity)
        values, found = self._convert(raw, parts, entity, grid)
        outcome = reasons.first_problems(raw.numbers, [*problems, *found])
        is_good = outcome.get_column("reason_code").is_null()
        accepted = self._lake_rows(values.filter(is_good), entity)
        refused = outcome.filter(~is_good)
        taken = raw.numbers
        if self.with_miscounted:
            code, reason = reasons.WRONG_COUNT
            wrong = [(row, None, code, reason) for row in raw.miscounted]
            refused = pl.concat([refused, pl.DataFrame(wrong, schema=outcome.schema, orient="row")]).sort("source_row")
            taken = pl.concat([taken, pl.Series(raw.miscounted, dtype=pl.Int32)])
        refused = refused.with_columns(*self._provenance(entity.name), pl.lit(entity.name).alias("entity"))
        refused = refused.select([pl.col(n).cast(t) for n, t in REFUSAL_SCHEMA.items()])
        return TableRows(accepted, refused, self._days(raw, match, grid).filter(is_good), taken)

    def _days(self, raw: _Raw, match: Match, grid: Grid) -> pl.Series:
        if match.table.dated is None:
            return pl.Series([None], dtype=pl.Date).new_from_index(0, len(raw.numbers))
        cells = raw.column(match.marks[normal(match.table.dated)])
        return ColumnReader.of(DAY, Column(variable=DAY.name), self.profile, grid).read(cells).values

    def _provenance(self, entity: str) -> list[pl.Expr]:
        start = f"{self.delivery_key}-{entity}-{self.file_number}-"
        return [
            pl.lit(self.site_code).alias("site_code"),
            pl.lit(self.delivery_key).alias("delivery_key"),
            pl.lit(self.file_number, dtype=pl.Int32).alias("file_number"),
            pl.concat_str(pl.lit(start), pl.col("source_row").cast(pl.String), pl.lit(self.suffix)).alias("row_key"),
        ]

    def _selected(self, raw: _Raw, match: Match) -> _Raw:
        """The rows that `where` makes this table's."""
        for name, values in match.table.where.items():
            wanted = [normal(value) for value in values]
            cells = raw.column(match.marks[normal(name)])
            texts = [t for t in cells.unique().to_list() if any(fnmatch.fnmatchcase(normal(t), w) for w in wanted)]
            raw = raw.only(cells.is_in(texts))
        return raw

    def _parts(self, raw: _Raw, match: Match, entity: Entity) -> tuple[Parts, list[Problem], _Raw]:
        """Every variable's cells, those of the tests of a long table in columns of their own."""
        problems: list[Problem] = []
        tests: dict[int, pl.Series] = {}
        if match.table.long is not None:
            raw, tests, problems = _long_columns(raw, match)
        parts: Parts = {
            variable: [(column, raw.column(position)) for position, column in places]
            for variable, places in match.positions.items()
        }
        if match.table.long is not None:
            columns = list(match.table.long.tests.values())
            for number, cells in tests.items():
                parts.setdefault(columns[number].variable, []).append((columns[number], cells))
        constants = {**match.table.constants, **match.from_name}
        for variable in entity.variables:
            if variable.name in constants and variable.name not in parts:
                cells = pl.Series([constants[variable.name]], dtype=pl.String).new_from_index(0, len(raw.numbers))
                parts[variable.name] = [(Column(variable=variable.name), cells)]
        return parts, problems, raw

    def _convert(self, raw: _Raw, parts: Parts, entity: Entity, grid: Grid) -> tuple[pl.DataFrame, list[Problem]]:
        """Typed values, and what cannot be read, in the order of the dictionary."""
        identifiers = _identifier_words(parts, entity)
        values: dict[str, pl.Series] = {"source_row": raw.numbers.alias("source_row")}
        problems: list[Problem] = []
        for variable in entity.variables:
            readings = []
            for column, cells in parts.get(variable.name, []):
                reader = ColumnReader.of(variable, column, self.profile, grid)
                reading = reader.read(cells)
                readings.append(reading)
                problems += reasons.problems_of(reader, reading, identifiers)
            values[variable.name] = _one(variable, readings, parts.get(variable.name, []), len(raw.numbers))
        lacking = values["patient_id"].is_null()
        for problem in problems:
            if problem.variable == "patient_id":
                lacking &= ~problem.is_bad
        if lacking.any():
            problems.insert(0, Problem.everywhere("patient_id", lacking, *reasons.MISSING_PATIENT))
        return pl.DataFrame(values), problems

    def _lake_rows(self, values: pl.DataFrame, entity: Entity) -> pl.DataFrame:
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
        for subject, (family, given, sex, birth) in zip(subjects, values.select(columns).iter_rows(), strict=True):
            if None in (family, given, sex, birth):
                continue
            person = (name_key(family), name_key(given), sex, birth.isoformat())
            if person[0] and person[1]:
                noted.append((self.pseudonyms.hash("identity", *person), subject))
        self.pseudonyms.note_identity(self.site_code, noted)


def name_key(name: str) -> str:
    """A name as it is compared: letters only, without accents and case."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if letter.isalpha())


def _cells_below(grid: Grid, match: Match) -> _Raw:
    """The cells below the header that the match needs, rows with the wrong count of cells apart."""
    header = grid.rows[match.header_index]
    width = max(position for position, cell in enumerate(header) if cell.strip()) + 1
    below = enumerate(grid.rows[match.header_index + 1 :], start=match.header_index + 2)
    rows = [(number, row) for number, row in below if any(cell.strip() for cell in row)]
    # Spreadsheets leave empty cells behind the last column, in all rows; in one row alone they are what a separator
    # inside a cell has pushed to the right.
    usual = Counter(len(row) for _, row in rows).most_common(1)[0][0] if rows else width
    most = max(len(header), usual)
    numbers: list[int] = []
    kept: list[list[str]] = []
    miscounted: list[int] = []
    for number, row in rows:
        if len(row) < width or len(row) > most or any(cell.strip() for cell in row[width:]):
            miscounted.append(number)
            continue
        numbers.append(number)
        kept.append(row)
    needed = {position for places in match.positions.values() for position, _ in places} | set(match.marks.values())
    cells = {position: pl.Series([row[position] for row in kept], dtype=pl.String) for position in needed}
    return _Raw(pl.Series(numbers, dtype=pl.Int32), cells, miscounted)


def _long_columns(raw: _Raw, match: Match) -> tuple[_Raw, dict[int, pl.Series], list[Problem]]:
    """The rows of a long table without those left out; the results of each test, empty in the rows of others."""
    long = match.table.long
    assert long is not None
    columns = list(long.tests.values())
    names = raw.column(match.marks[normal(long.test)])
    number_of: dict[str, int | None] = {}
    ignored = []
    for name in names.unique().to_list():
        try:
            column = long.column_of(name)
        except KeyError:
            number_of[name] = None
            continue
        if column is None:
            ignored.append(name)
        else:
            number_of[name] = next(index for index, known in enumerate(columns) if known is column)
    raw = raw.only(~names.is_in(ignored))
    names = raw.column(match.marks[normal(long.test)])
    results = raw.column(match.marks[normal(long.value)])
    tests: dict[int, pl.Series] = {}
    for number in sorted({number for number in number_of.values() if number is not None}):
        mine = names.is_in([name for name, own in number_of.items() if own == number])
        tests[number] = results.set(~mine, "")
    unknown = names.is_in([name for name, own in number_of.items() if own is None])
    problems = [Problem.everywhere(None, unknown, *reasons.UNKNOWN_TEST)] if unknown.any() else []
    return raw, tests, problems


def _identifier_words(parts: Parts, entity: Entity) -> set[str]:
    """Everything that stands in a column of identifiers: never repeated in a reason."""
    names = [variable.name for variable in entity.variables if variable.is_identifier]
    return {normal(cell) for name in names for _, cells in parts.get(name, []) for cell in cells.unique().to_list()}


def _one(
    variable: Variable, readings: list[Reading], columns: list[tuple[Column, pl.Series]], height: int
) -> pl.Series:
    """One value per row from all the columns that stand for a variable."""
    name = variable.name
    if not readings:
        return pl.Series(name, [None] * height, dtype=variable.polars_type)
    if len(readings) == 1:
        return readings[0].values.alias(name)
    frame = pl.DataFrame([reading.values.alias(str(index)) for index, reading in enumerate(readings)])
    return frame.select(combined(columns[0][0].combine).alias(name)).to_series()


def combined(how: str | None) -> pl.Expr:
    """One value from those of all columns of a frame, nulls left out."""
    if how == "mean":
        return pl.mean_horizontal(pl.all())
    if how == "any":
        return pl.max_horizontal(pl.all())
    return pl.coalesce(pl.all())
