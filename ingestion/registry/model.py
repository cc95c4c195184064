"""What goes into and comes out of reading registry tables.

Here: the typed records that the steps of this package hand to each other. Not here: how any of them is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from ingestion.profile import Column


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
    """Rows below the header that are not blank, refused ones included."""
    refused_count: int = 0
    is_table: bool = True


@dataclass
class RegistryResult:
    """Rows by entity, refused rows, and the fate of each file by its number."""

    tables: dict[str, pl.DataFrame]
    refusals: pl.DataFrame
    files: dict[int, RegistryFate]


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
    is_workbook: bool = False
    day_offset: int = 0
    """Days to add to a bare date number: 1462 in workbooks that count from 1904."""


@dataclass(frozen=True)
class Match:
    """How a grid fits an entity."""

    entity: str
    header_index: int
    positions: dict[str, tuple[int, Column]] = field(default_factory=dict)
    """Variable -> (column position, how it is read)."""
    is_named: bool = False
    """Whether the file's or sheet's name is one of the profile's for this entity."""
    duplicated: str | None = None
    """A variable that two columns stand for."""
    unknown_count: int = 0
    """Columns with a name that the profile does not know."""

    @property
    def has_patient(self) -> bool:
        return "patient_id" in self.positions

    @property
    def is_table(self) -> bool:
        return self.has_patient and len(self.positions) >= 2

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """The greatest fits best."""
        return self.is_table, self.is_named, len(self.positions), -self.unknown_count
