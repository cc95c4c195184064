"""What is wrong with a row of a registry table, in words a site can act on.

Here: reason codes and reasons, and which of a row's problems speaks for it. Not here: finding them (`values`,
`convert`). A reason never repeats what a cell said unless it is a short code that is no identifier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from ingestion.profile import normal, spoken_format
from ingestion.registry.values import MAXIMUM_LENGTH, ColumnReader, Reading

MISSING_PATIENT = ("missing_patient_id", "The patient's identifier is missing; fill it in and send the row again.")
WRONG_COUNT = (
    "wrong_column_count",
    "The row does not have as many cells as the header has columns; look for a separator or quote inside a cell.",
)
UNKNOWN_TEST = (
    "unknown_test",
    "The test of this row is not in the source profile; correct its name, or ask the data manager to add it.",
)
CONFLICTING = "conflicting_value"
REASON_CODES = {
    "string": "unreadable_text",
    "code": "unknown_code",
    "integer": "unreadable_number",
    "decimal": "unreadable_number",
    "boolean": "unreadable_boolean",
    "date": "unreadable_date",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong in one column: where, and why for each row."""

    variable: str | None
    reason_code: str
    is_bad: pl.Series
    reasons: pl.Series

    @classmethod
    def everywhere(cls, variable: str | None, is_bad: pl.Series, code: str, reason: str) -> Problem:
        """A problem whose reason is the same in every row."""
        return cls(variable, code, is_bad, pl.Series([reason], dtype=pl.String).new_from_index(0, is_bad.len()))


def problems_of(reader: ColumnReader, reading: Reading, identifiers: set[str]) -> list[Problem]:
    """What cannot be read in a column, each cell under one problem only."""
    name = reader.variable.name
    found = []
    rest = reading.texts.is_not_null() & reading.values.is_null()
    if not rest.any():
        return []
    if reading.broken.any():
        reason = (
            f"{name} holds characters that are no text, more than {MAXIMUM_LENGTH} of them, or a formula; "
            "write the plain value, save the table as UTF-8 and send the row again."
        )
        found.append(Problem.everywhere(name, reading.broken, "broken_text", reason))
    if reading.clashing.any():
        forms = " and ".join(spoken_format(form) for form in reader.date_formats)
        reason = f"{name} reads as different days in the forms {forms}; write it so that it can mean one day only."
        found.append(Problem.everywhere(name, reading.clashing, "ambiguous_date", reason))
    rest &= ~reading.broken & ~reading.clashing
    if rest.any():
        code = REASON_CODES[reader.variable.type]
        found.append(Problem(name, code, rest, _reasons(reader, reading.texts, rest, identifiers)))
    return found


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
    elif kind == "decimal":
        wrong = "not a number with a decimal comma" if reader.has_decimal_comma else "not a number"
    else:
        wrong = "not of the agreed form"
    reason = f"{name} is {wrong}; correct it and send the row again."
    return pl.Series([reason], dtype=pl.String).new_from_index(0, texts.len())


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


def first_problems(rows: pl.Series, found: list[Problem]) -> pl.DataFrame:
    """One row per source row: the first problem in dictionary order, and how many more cells have one."""
    nothing = pl.lit(None, dtype=pl.String)
    problems = pl.DataFrame({"source_row": rows}).select(
        "source_row",
        nothing.alias("variable"),
        nothing.alias("reason_code"),
        nothing.alias("reason"),
        pl.lit(-1, dtype=pl.Int32).alias("more"),
    )
    for problem in found:
        first = problem.is_bad & problems.get_column("reason_code").is_null()
        problems = problems.with_columns(
            pl.when(first).then(pl.lit(problem.variable, dtype=pl.String)).otherwise("variable").alias("variable"),
            pl.when(first).then(pl.lit(problem.reason_code)).otherwise("reason_code").alias("reason_code"),
            pl.when(first).then(problem.reasons).otherwise("reason").alias("reason"),
            (pl.col("more") + problem.is_bad.cast(pl.Int32)).alias("more"),
        )
    more = pl.format("{} Cells of this row that cannot be read besides: {}.", "reason", "more")
    return problems.with_columns(pl.when(pl.col("more") > 0).then(more).otherwise("reason").alias("reason")).drop(
        "more"
    )
