"""From cells to rows: each row of a grid becomes a row of the lake or one refusal.

Here: which cells are a row, what is wrong with it, its keys, and the end of every identifier. Not here: reading one
column (`values`). A reason never repeats what a cell said unless it is a short code that is no identifier.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import polars as pl

from ingestion.profile import Column, Profile, normal, spoken_format
from ingestion.registry.model import Grid, Match
from ingestion.registry.values import ColumnReader
from warehouse.dictionary import Entity, load_dictionary
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import schema_of

REFUSAL_SCHEMA = schema_of("raw_registry__refusal")
MISSING_PATIENT = ("missing_patient_id", "The patient's identifier is missing; fill it in and send the row again.")
WRONG_COUNT = (
    "wrong_column_count",
    "The row does not have as many cells as the header has columns; look for a separator or quote inside a cell.",
)
REASON_CODES = {
    "string": "unreadable_text",
    "code": "unknown_code",
    "integer": "unreadable_number",
    "decimal": "unreadable_number",
    "boolean": "unreadable_boolean",
    "date": "unreadable_date",
}


@dataclass(frozen=True)
class _Problem:
    """What is wrong in one column: where, and why for each row."""

    variable: str
    reason_code: str
    is_bad: pl.Series
    reasons: pl.Series


@dataclass(frozen=True)
class TableReader:
    """Reads one grid of one file as one entity."""

    file_number: int
    profile: Profile
    pseudonyms: Pseudonyms
    site_code: str
    delivery_key: str
    suffix: str
    """Distinguishes row keys where one workbook has several sheets of an entity."""

    def read(self, grid: Grid, match: Match) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(rows for the lake, refusals): together every row below the header that is not blank."""
        entity = load_dictionary().entities[match.entity]
        raw, miscounted = self._rows(grid, match)
        values, problems = self._convert(raw, entity, match, grid)
        is_good = problems.get_column("reason_code").is_null()
        accepted = self._lake_rows(values.filter(is_good), entity)
        code, reason = WRONG_COUNT
        wrong = pl.DataFrame([(row, None, code, reason) for row in miscounted], schema=problems.schema, orient="row")
        refused = pl.concat([problems.filter(~is_good), wrong]).sort("source_row")
        refused = refused.with_columns(*self._provenance(entity.name), pl.lit(entity.name).alias("entity"))
        return accepted, refused.select([pl.col(n).cast(t) for n, t in REFUSAL_SCHEMA.items()])

    def _provenance(self, entity: str) -> list[pl.Expr]:
        start = f"{self.delivery_key}-{entity}-{self.file_number}-"
        return [
            pl.lit(self.site_code).alias("site_code"),
            pl.lit(self.delivery_key).alias("delivery_key"),
            pl.lit(self.file_number, dtype=pl.Int32).alias("file_number"),
            pl.concat_str(pl.lit(start), pl.col("source_row").cast(pl.String), pl.lit(self.suffix)).alias("row_key"),
        ]

    def _rows(self, grid: Grid, match: Match) -> tuple[pl.DataFrame, list[int]]:
        """The matched cells as texts with their row numbers, and the numbers of rows with the wrong count of cells."""
        header = grid.rows[match.header_index]
        width = max(position for position, cell in enumerate(header) if cell.strip()) + 1
        numbers: list[int] = []
        kept: list[list[str]] = []
        miscounted: list[int] = []
        for number, row in enumerate(grid.rows[match.header_index + 1 :], start=match.header_index + 2):
            if not any(cell.strip() for cell in row):
                continue
            # Spreadsheets leave empty cells behind the last column; those are no sign of a broken row.
            if len(row) < width or any(cell.strip() for cell in row[width:]):
                miscounted.append(number)
                continue
            numbers.append(number)
            kept.append(row)
        columns = {"source_row": pl.Series("source_row", numbers, dtype=pl.Int32)}
        for variable, (position, _) in match.positions.items():
            columns[variable] = pl.Series(variable, [row[position] for row in kept], dtype=pl.String)
        return pl.DataFrame(columns), miscounted

    def _convert(
        self, raw: pl.DataFrame, entity: Entity, match: Match, grid: Grid
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Typed values, and per row the first problem (null where there is none)."""
        identifiers = _identifier_words(raw, entity, match)
        constants = self.profile.entities[entity.name].constants
        values: dict[str, pl.Series] = {"source_row": raw.get_column("source_row")}
        problems: list[_Problem] = []
        for variable in entity.variables:
            if variable.name in match.positions:
                reader = ColumnReader.of(variable, match.positions[variable.name][1], self.profile, grid)
                texts = reader.clean(raw.get_column(variable.name))
            else:
                reader = ColumnReader(variable, Column(variable=variable.name), self.profile)
                texts = pl.Series(variable.name, [constants.get(variable.name)] * raw.height, dtype=pl.String)
            typed = reader.read(texts)
            values[variable.name] = typed
            is_bad = texts.is_not_null() & typed.is_null()
            if is_bad.any():
                reasons = _reasons(reader, texts, is_bad, identifiers)
                problems.append(_Problem(variable.name, REASON_CODES[variable.type], is_bad, reasons))
        lacking = values["patient_id"].is_null()
        if lacking.any():
            code, reason = MISSING_PATIENT
            problems.insert(0, _Problem("patient_id", code, lacking, pl.Series([reason] * raw.height)))
        return pl.DataFrame(values), _first_problems(raw, problems)

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


def _identifier_words(raw: pl.DataFrame, entity: Entity, match: Match) -> set[str]:
    """Everything that stands in a column of identifiers: never repeated in a reason."""
    names = [v.name for v in entity.variables if v.is_identifier and v.name in match.positions]
    return {normal(cell) for name in names for cell in raw.get_column(name).unique().to_list()}


def _reasons(reader: ColumnReader, texts: pl.Series, is_bad: pl.Series, identifiers: set[str]) -> pl.Series:
    """What is wrong and what to do, for each row of a column."""
    name, kind = reader.variable.name, reader.variable.type
    if kind == "code":
        return _code_reasons(reader, texts, is_bad, identifiers)
    if kind == "date":
        wrong = f"not a date of the form {' or '.join(map(spoken_format, reader.date_formats))}"
    elif kind == "boolean":
        yes, no = "/".join(reader.profile.true_values), "/".join(reader.profile.false_values)
        wrong = f"neither {yes} nor {no}"
    elif kind == "integer":
        wrong = "not a whole number"
    else:
        wrong = "not a number with a decimal comma" if reader.has_decimal_comma else "not a number"
    return pl.Series([f"{name} is {wrong}; correct it and send the row again."] * texts.len(), dtype=pl.String)


def _code_reasons(reader: ColumnReader, texts: pl.Series, is_bad: pl.Series, identifiers: set[str]) -> pl.Series:
    """Reasons of unknown codes. A code is repeated only when it is too short to be anything but a code."""
    variable = reader.variable
    known = list(dict.fromkeys([*reader.column.values, *(variable.codes or {})]))
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


def _first_problems(raw: pl.DataFrame, found: list[_Problem]) -> pl.DataFrame:
    """One row per source row: the first problem in dictionary order, and how many more cells have one."""
    nothing = pl.lit(None, dtype=pl.String)
    problems = raw.select(
        "source_row",
        nothing.alias("variable"),
        nothing.alias("reason_code"),
        nothing.alias("reason"),
        pl.lit(-1, dtype=pl.Int32).alias("more"),
    )
    for problem in found:
        first = problem.is_bad & problems.get_column("reason_code").is_null()
        problems = problems.with_columns(
            pl.when(first).then(pl.lit(problem.variable)).otherwise("variable").alias("variable"),
            pl.when(first).then(pl.lit(problem.reason_code)).otherwise("reason_code").alias("reason_code"),
            pl.when(first).then(problem.reasons).otherwise("reason").alias("reason"),
            (pl.col("more") + problem.is_bad.cast(pl.Int32)).alias("more"),
        )
    more = pl.format("{} Cells of this row that cannot be read besides: {}.", "reason", "more")
    return problems.with_columns(pl.when(pl.col("more") > 0).then(more).otherwise("reason").alias("reason")).drop(
        "more"
    )
