"""From a cell's text to a value of the dictionary's type, a whole column at a time.

Here: words for "missing", codes, numbers and dates as a source profile describes them; null is a text that is no value.
Not here: rows and refusals (`convert`), or whether a value is right (`qa.variables`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from ingestion.profile import DATE_NUMBERS, Column, Profile, normal
from ingestion.registry.model import Grid
from warehouse.dictionary import Variable

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
GROUPED_NUMBER = r"^[+-]?\d{1,3}(\.\d{3})+,\d+$"
"""A number with a decimal comma and points between its thousands."""
COMMA_NUMBER = r"^[+-]?\d*,\d+$"
AMBIGUOUS_NUMBER = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
"""In a text file with decimal commas `1.234` may be a thousand and more or one and a bit."""
TIME_PART = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z?$"
EXCEL_EPOCH = pl.date(1899, 12, 30)
EPOCH_NUMBER = r"^-?\d{1,14}(\.0+)?$"
BROKEN_TEXT = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{fffd}]"
"""Control characters, and the mark that stands for bytes which are no text in the file's encoding."""
FORMULA = r"^([=@]|[+-][^\d.,])"
"""A text that a spreadsheet would run when a table of ours is opened in it."""
STRIPPED = " \t\r\n\u00a0\ufeff"
MAXIMUM_LENGTH = 1000
"""Characters of a cell. No variable of a registry is longer; a lost quote makes cells of a million."""
YEARS = (1800, 2200)
"""A date outside these years is a slip of the keyboard, which no later rule need look at."""
FACTOR_DIGITS = 9
"""Decimals that survive a unit's factor: enough for any measurement, too few for binary rounding to show."""
_DIRECTIVE_SHAPE = {
    "%d": r"\d{1,2}",
    "%m": r"\d{1,2}",
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    "%b": r"[A-Za-z]{3}",
    "%B": r"[A-Za-z]+",
}


class Reading(NamedTuple):
    """A column as read. Where a text is given and the value is null, the cell cannot be read."""

    texts: pl.Series
    values: pl.Series
    broken: pl.Series
    """Cells whose text itself is at fault, whatever was expected there."""
    clashing: pl.Series
    """Dates that two of the formats read as different days."""


@dataclass(frozen=True)
class ColumnReader:
    """Reads one column of a grid as one variable."""

    variable: Variable
    column: Column
    profile: Profile
    is_typed: bool = False
    day_offset: int | None = None

    @classmethod
    def of(cls, variable: Variable, column: Column, profile: Profile, grid: Grid) -> ColumnReader:
        return cls(variable, column, profile, grid.is_typed, grid.day_offset)

    @property
    def date_formats(self) -> list[str]:
        return self.column.date_formats or self.profile.date_formats

    @property
    def has_decimal_comma(self) -> bool:
        given = self.column.decimal_comma
        return self.profile.decimal_comma if given is None else given

    def _meant(self, texts: pl.Series) -> pl.Series:
        """The site's codes as the dictionary's, words for "missing" as null."""
        codes = {normal(code) for code in self.variable.codes or {}}
        own_missing = {normal(word) for word in (*self.column.missing, "")}
        # A code of the dictionary may be a common word for "missing", such as `none`.
        missing = own_missing | ({normal(word) for word in self.profile.missing} - codes)
        mapped = {normal(code): value for code, value in self.column.values.items()}
        meaning: dict[str, str | None] = {}
        for text in texts.unique().drop_nulls():
            key = normal(text)
            meaning[text] = mapped.get(key, None if key in missing else text)
        return _replaced(texts, meaning, pl.String)

    def read(self, cells: pl.Series) -> Reading:
        """Texts and values of the variable's type, cell by cell."""
        picked = cells.str.strip_chars(STRIPPED)
        unmatched = None
        if self.column.extract is not None:
            found = picked.str.extract(self.column.extract, 1)
            unmatched = found.is_null()
            picked = found.fill_null(picked)
        texts = self._meant(picked)
        broken = texts.str.contains(BROKEN_TEXT) | (texts.str.len_chars() > MAXIMUM_LENGTH)
        if self.variable.type == "string" and not self.variable.is_identifier:
            broken |= texts.str.contains(FORMULA)
        broken = broken.fill_null(value=False)
        unusable = broken if unmatched is None else broken | unmatched
        sound = texts.set(unusable, None) if unusable.any() else texts
        if self.variable.type != "date":
            return Reading(texts, self._typed(sound), broken, _none(texts))
        frame = pl.DataFrame({"text": sound}, schema={"text": pl.String})
        days, clashing = frame.select(*self._dates(pl.col("text"))).get_columns()
        return Reading(texts, days.alias(texts.name), broken, clashing)

    def _typed(self, texts: pl.Series) -> pl.Series:
        kind = self.variable.type
        if kind == "string":
            return texts
        if kind == "code":
            return _looked_up(texts, {normal(code): code for code in self.variable.codes or {}}, pl.String)
        if kind == "boolean":
            words = {normal(word): True for word in self.profile.true_values}
            words |= {normal(word): False for word in self.profile.false_values}
            return _looked_up(texts, words, pl.Boolean)
        frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
        return frame.select(self._number(pl.col("text")).alias(texts.name)).to_series()

    def _number(self, text: pl.Expr) -> pl.Expr:
        if self.has_decimal_comma:
            grouped = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
            text = (
                pl.when(text.str.contains(GROUPED_NUMBER) | text.str.contains(COMMA_NUMBER))
                .then(grouped)
                # Cells that are numbers come with a point whatever the sheet shows.
                .when(text.str.contains(AMBIGUOUS_NUMBER) & pl.lit(not self.is_typed))
                .then(None)
                .otherwise(text)
            )
        number = pl.when(text.str.contains(NUMBER)).then(text).cast(pl.Float64, strict=False)
        if self.column.factor != 1.0:
            number = (number * self.column.factor).round(FACTOR_DIGITS)
        number = pl.when(number.is_finite()).then(number)
        if self.variable.type == "integer":
            whole = pl.when((number == number.round()) & (number.abs() < 2.0**53)).then(number)
            return whole.cast(pl.Int64, strict=False)
        return number

    def _dates(self, text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """The day, and whether two formats disagree about it."""
        day = text.str.replace(TIME_PART, "")
        tries = [self._in_format(text, day, form) for form in self.date_formats]
        first = pl.coalesce(tries)
        clashing = pl.any_horizontal(*(found.is_not_null() & (found != first) for found in tries))
        if self.is_typed:
            # A true date cell arrives as ISO text whatever the sheet shows; a bare number counts days.
            iso = _in_text_format(day, "%Y-%m-%d")
            clashing &= iso.is_null()
            first = pl.coalesce(iso, first)
        if self.day_offset is not None:
            first = pl.coalesce(first, _excel_day(text, self.day_offset))
        found = pl.when(first.dt.year().is_between(*YEARS) & ~clashing).then(first)
        return found.alias("day"), (clashing & text.is_not_null()).fill_null(value=False).alias("clashing")

    def _in_format(self, text: pl.Expr, day: pl.Expr, form: str) -> pl.Expr:
        if form == "excel":
            return _excel_day(text, self.day_offset or 0)
        if form not in DATE_NUMBERS:
            return _in_text_format(day, form)
        number = pl.when(text.str.contains(EPOCH_NUMBER)).then(text).cast(pl.Float64, strict=False).cast(pl.Int64)
        moment = pl.from_epoch(number * (1 if form == "epoch_ms" else 1000), time_unit="ms")
        return moment.dt.replace_time_zone("UTC").dt.convert_time_zone(self.profile.time_zone).dt.date()


def _excel_day(text: pl.Expr, offset: int) -> pl.Expr:
    """A spreadsheet's date number: days since the end of 1899, five digits from 1927 to 2173."""
    number = pl.when(text.str.contains(r"^\d{5}(\.\d+)?$")).then(text).cast(pl.Float64, strict=False)
    return EXCEL_EPOCH + pl.duration(days=number.floor().cast(pl.Int64) + offset)


def _none(texts: pl.Series) -> pl.Series:
    return pl.Series(texts.name, [False], dtype=pl.Boolean).new_from_index(0, texts.len())


def _in_text_format(day: pl.Expr, form: str) -> pl.Expr:
    """Dates of one format; a month or year alone means its first day."""
    given = {"%m" if part in ("%b", "%B") else part for part in re.findall(r"%.", form)}
    lacking = [part for part in ("%d", "%m") if part not in given]
    prefix, pattern = "01 " * len(lacking), "".join(f"{part} " for part in lacking) + form
    # polars alone would take `20` as `%Y`.
    shape = "".join(_DIRECTIVE_SHAPE.get(piece, re.escape(piece)) for piece in re.split(r"(%.)", form))
    shaped = pl.when(day.str.contains(f"^{shape}$")).then(day)
    found = pl.concat_str(pl.lit(prefix), shaped).str.to_date(pattern, strict=False, exact=True)
    if "%y" not in given:
        return found
    # Nothing a registry holds lies ahead: a year of two digits that would is one of the last century.
    return pl.when(found > datetime.now(UTC).date()).then(found.dt.offset_by("-100y")).otherwise(found)


def _looked_up(texts: pl.Series, meaning: Mapping[str, str | bool], kind: type[pl.DataType]) -> pl.Series:
    return _replaced(texts, {text: meaning.get(normal(text)) for text in texts.unique().drop_nulls()}, kind)


def _replaced(texts: pl.Series, meaning: Mapping[str, str | bool | None], kind: type[pl.DataType]) -> pl.Series:
    if not meaning:
        return pl.Series(texts.name, [None] * texts.len(), dtype=kind)
    return texts.replace_strict(meaning, default=None, return_dtype=kind)
