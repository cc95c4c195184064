"""What goes into and comes out of reading registry tables.

Here: the typed records that the steps of this package hand to each other. Not here: how any of them is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from ingestion.profile import Column, Table


@dataclass(frozen=True)
class RegistryFile:
    """A file to be read as a registry table."""

    path: Path
    file_number: int


@dataclass(frozen=True)
class RegistryFate:
    """What became of a file: `is_table` is false when it is a text file without anything of a table."""

    status: Literal["accepted", "refused"]
    reason_code: str | None = None
    reason: str | None = None
    entities: tuple[str, ...] = ()
    rows_count: int = 0
    """Rows below the header that are not blank, refused ones included. A row that is read for two entities counts
    twice, and one that the profile leaves out does not count."""
    refused_count: int = 0
    is_table: bool = True


@dataclass
class RegistryResult:
    """Rows by entity, refused rows, and the fate of each file by its number."""

    tables: dict[str, pl.DataFrame]
    refusals: pl.DataFrame
    files: dict[int, RegistryFate]
    folded_count: int = 0
    """Rows that became one with an earlier row of the same record: received = rows of tables + refusals + folded."""


class FileRefused(Exception):
    """A file or sheet as a whole cannot be read; `fate` says why and what to do."""

    def __init__(self, reason_code: str, reason: str, is_table: bool = True) -> None:
        super().__init__(reason)
        self.fate = RegistryFate("refused", reason_code, reason, is_table=is_table)


@dataclass(frozen=True)
class Grid:
    """Cells as texts. `rows[i]` is row `i + 1` of the source, blank rows included as empty lists."""

    rows: list[list[str]]
    sheet: str | None = None
    sheet_number: int = 1
    is_typed: bool = False
    """Whether the source keeps numbers and dates as such: they arrive with a point and as ISO 8601."""
    day_offset: int | None = None
    """Days to add to a bare date number: 0, or 1462 in workbooks that count from 1904. None: it has no date numbers."""


@dataclass(frozen=True)
class Match:
    """How a grid fits a table of the profile."""

    entity: str
    table: Table
    header_index: int
    positions: dict[str, list[tuple[int, Column]]] = field(default_factory=dict)
    """Variable -> (column position, how it is read) of each column that stands for it."""
    marks: dict[str, int] = field(default_factory=dict)
    """Normalised name -> position of the columns that `where`, `long` and `dated` look at."""
    from_name: dict[str, str] = field(default_factory=dict)
    """Variable -> its value, found in the file's name."""
    is_named: bool = False
    """Whether the file's or sheet's name is one of the profile's for this table."""
    duplicated: str | None = None
    """A variable that two columns stand for."""
    lacking: tuple[str, ...] = ()
    """Columns that `where`, `long` and `dated` need and that are not there."""
    unknown: frozenset[int] = frozenset()
    """Positions of columns with a name that the profile does not know for this table."""

    @property
    def has_patient(self) -> bool:
        return "patient_id" in self.positions or "patient_id" in self.from_name

    @property
    def known_count(self) -> int:
        return len(self.positions) + len(self.marks)

    @property
    def is_table(self) -> bool:
        known = len(self.positions.keys() | self.from_name.keys()) + (self.table.long is not None)
        return self.has_patient and not self.lacking and known >= 2

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """The greatest fits best."""
        return self.is_table, self.is_named, self.known_count, -len(self.unknown)
