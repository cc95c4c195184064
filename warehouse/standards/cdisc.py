"""A tier as the CDISC archive of OPTIMISE:MS: a zip file with one CSV file per SDTM domain.

Here: turning the rows of marts into the rows of domains, by `cdisc.yaml`. Not here: reading such an archive (a source
profile does).
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from warehouse.errors import RanvierError
from warehouse.standards.rows import TierFile, write_new

LAYOUT = Path(__file__).with_name("cdisc.yaml")
SUBJECT = "USUBJID"


class Cell(BaseModel):
    """What stands in a column, or is the result of a test."""

    model_config = ConfigDict(extra="forbid")

    variable: str
    values: dict[str, str | None] = {}
    """The dictionary's code -> the term there; null leaves the cell or the row out. Other codes stay as they are."""
    otherwise: str | None = None
    """Variable that stands in where `variable` is missing; with `hand`, that of the other hand."""
    hand: str | None = None
    """`variable` when this is the subject's dominant hand, `otherwise` when it is not; nothing when it is unknown."""
    where: dict[str, str] = {}
    """Columns and the values that a row must have for this test."""
    factor: float = 1.0
    """The dictionary's number times this is the unit there."""
    beside: dict[str, str] = {}
    """Other columns of the row, such as the unit."""
    own: bool = False
    """The test is not in OPTIMISE:MS."""


def _cell(value: Any) -> Any:
    return {"variable": value} if isinstance(value, str) else value


class File(BaseModel):
    """One file of the archive: a row per row of the mart, or with `tests` a row per result."""

    model_config = ConfigDict(extra="forbid")

    domain: str
    mart: str
    columns: dict[str, Cell | None] = {}
    constants: dict[str, str] = {}
    date: dict[str, str] = {}
    test: str = ""
    results: list[str] = []
    tests: dict[str, Cell] = {}

    @field_validator("columns", "tests", mode="before")
    @classmethod
    def _short_form(cls, cells: Any) -> Any:
        return {name: _cell(value) for name, value in cells.items()} if isinstance(cells, dict) else cells


class Layout(BaseModel):
    """The archive."""

    model_config = ConfigDict(extra="forbid")

    study: str
    files: dict[str, File]


@lru_cache(maxsize=1)
def load_layout(path: Path = LAYOUT) -> Layout:
    """Read `cdisc.yaml`."""
    return Layout.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def epoch_ms(column: pl.Expr) -> pl.Expr:
    """Days as OPTIMISE:MS writes them: milliseconds from 1970 to their midnight in UTC, as text."""
    return column.cast(pl.Datetime("ms")).dt.epoch("ms").cast(pl.String)


def _text(frame: pl.DataFrame, variable: str, factor: float = 1.0) -> pl.Expr:
    kind = frame.schema[variable]
    if kind == pl.Date:
        return epoch_ms(pl.col(variable))
    if kind.is_float():
        # 2.0 is written 2, as OPTIMISE:MS does.
        number = pl.col(variable) if factor == 1 else (pl.col(variable) * factor).round_sig_figs(6)
        return number.cast(pl.String).str.strip_suffix(".0")
    if kind == pl.Boolean:
        return pl.when(pl.col(variable)).then(pl.lit("1")).when(~pl.col(variable)).then(pl.lit("0"))
    return pl.col(variable).cast(pl.String)


def _value(frame: pl.DataFrame, cell: Cell) -> pl.Expr:
    """The cell's text; null where there is nothing, or where the tier does not hold the variable."""
    nothing = pl.lit(None, dtype=pl.String)
    own = _text(frame, cell.variable, cell.factor) if cell.variable in frame.columns else nothing
    other = _text(frame, cell.otherwise) if cell.otherwise in frame.columns and cell.otherwise else nothing
    if cell.hand:
        is_known = pl.col("handedness").is_in(["left", "right"])
        return pl.when(pl.col("handedness") == cell.hand).then(own).when(is_known).then(other)
    if cell.values:
        spoken = {"1": "true", "0": "false"} if frame.schema.get(cell.variable) == pl.Boolean else {}
        own = own.replace(spoken) if spoken else own
        own = own.replace(cell.values)
    return pl.coalesce(own, other)


def domain_rows(file: File, frame: pl.DataFrame, study: str) -> pl.DataFrame:
    """The rows of one file, all of them text; columns in the order of OPTIMISE:MS.

    Parameters
    ----------
    frame
        The mart's rows, with `handedness` where a test is told by hand.
    """
    ends = [pl.lit(study).alias("STUDYID"), pl.lit(file.domain).alias("DOMAIN")]
    ends += [pl.lit(text).alias(name) for name, text in file.constants.items()]
    subject = pl.col("subject_key").alias(SUBJECT)
    cells = {name: cell for name, cell in file.columns.items()}
    wide = [
        (_value(frame, cell) if cell else pl.lit(None, dtype=pl.String)).alias(name) for name, cell in cells.items()
    ]
    if not file.tests:
        return frame.select(subject, *wide, *ends)
    dates = [epoch_ms(pl.col(variable)).alias(name) for name, variable in file.date.items()]
    beside = list(dict.fromkeys(name for cell in file.tests.values() for name in cell.beside))
    parts = []
    for test, cell in file.tests.items():
        chosen = [pl.col(name) == value for name, value in cell.where.items()]
        part = frame.filter(*chosen) if chosen else frame
        result = _value(part, cell)
        more = [pl.lit(cell.beside.get(name), dtype=pl.String).alias(name) for name in beside]
        results = [result.alias(name) for name in file.results]
        row = part.select(subject, pl.lit(test).alias(file.test), *results, *more, *wide, *dates, *ends)
        parts.append(row.filter(pl.col(file.results[0]).is_not_null()))
    return pl.concat(parts)


def write_cdisc(tier: TierFile, target: Path) -> int:
    """Write the archive; returns how many files it has. A domain without a row has no file, as there.

    Raises
    ------
    RanvierError
        The target is there already, or the tier has years in the place of dates.
    """
    if tier.tier in ("open", "registered"):
        raise RanvierError(
            f"The tier {tier.tier} has no dates, and CDISC domains need them; use --tier controlled, site or steward, "
            "or export it as frictionless"
        )
    layout = load_layout()
    hands = tier.read("dim_subject").select("subject_key", "handedness")
    written: dict[str, str] = {}
    for name, file in layout.files.items():
        frame = tier.read(file.mart)
        if file.mart != "dim_subject":
            frame = frame.join(hands, on="subject_key", how="left", maintain_order="left")
        rows = domain_rows(file, frame, layout.study)
        if not rows.is_empty():
            written[f"{name}.csv"] = rows.write_csv()

    def write(draft: Path) -> None:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in written.items():
                archive.writestr(name, text)

    write_new(target, write)
    return len(written)
