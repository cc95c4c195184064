"""All registry tables of a delivery, file by file.

Here: the order of steps and what is said of each file. Not here: the steps. Identifiers end in this package: they go to
the pseudonym table and into no result.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from ingestion.profile import Profile
from ingestion.registry.convert import REFUSAL_SCHEMA, TableReader
from ingestion.registry.fold import DATED, combinations, fold
from ingestion.registry.grids import TABLE_ENDINGS, read_grids
from ingestion.registry.match import choose
from ingestion.registry.model import FileRefused, Grid, Match, RegistryFate, RegistryFile, RegistryResult
from warehouse.dictionary import load_dictionary
from warehouse.pseudonyms import Pseudonyms

LOGGER = logging.getLogger(__name__)


def is_candidate(path: Path) -> bool:
    """Whether a file's ending says that it may be a registry table."""
    return path.suffix.lower() in TABLE_ENDINGS


def read_registry(
    files: Sequence[RegistryFile],
    profile: Profile,
    pseudonyms: Pseudonyms,
    site_code: str,
    delivery_key: str,
) -> RegistryResult:
    """Read registry files into rows of the lake.

    Every row that is not blank enters its entity's table, without identifiers and with the subject's key, becomes
    exactly one refusal, or joins an earlier row of the same record where the profile says that records are told in
    parts. Nothing in one row or file affects another, but for such records.

    Returns
    -------
    RegistryResult
        `tables` has a frame with the lake's columns for each entity found; `files` one fate per file given.
    """
    reader = _DeliveryReader(profile, pseudonyms, site_code, delivery_key)
    for file in files:
        try:
            fate = reader.read_file(file)
        except FileRefused as refused:
            fate = refused.fate
        reader.fates[file.file_number] = fate
    return reader.result()


@dataclass
class _DeliveryReader:
    """Reads the files of one delivery and keeps what came of them."""

    profile: Profile
    pseudonyms: Pseudonyms
    site_code: str
    delivery_key: str
    fates: dict[int, RegistryFate] = field(default_factory=dict)
    _whole: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    _told_in_parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    _refused: list[pl.DataFrame] = field(default_factory=list)

    def read_file(self, file: RegistryFile) -> RegistryFate:
        """Raises FileRefused when the file cannot be opened."""
        matched: list[tuple[Grid, list[Match]]] = []
        failed: list[tuple[Grid, RegistryFate]] = []
        for grid in read_grids(file.path, self.profile):
            try:
                matched.append((grid, choose(grid, file.path, self.profile)))
            except FileRefused as refused:
                failed.append((grid, refused.fate))
        failed = [(grid, fate) for grid, fate in failed if fate.reason_code != "empty_file"] or failed[:1]
        if not matched:
            return failed[0][1]  # a workbook's first sheet that is not blank speaks for the file
        rows_count = refused_count = left_out_count = 0
        used: Counter[str] = Counter()
        for grid, matches in matched:
            counts = self._read_grid(file, grid, matches, used)
            rows_count += counts[0]
            refused_count += counts[1]
            left_out_count += counts[2]
        notes = _notes(matched, failed, left_out_count)
        return RegistryFate(
            "accepted",
            "partly_used" if notes else None,
            " ".join(notes) or None,
            tuple(used),
            rows_count,
            refused_count,
        )

    def _read_grid(
        self, file: RegistryFile, grid: Grid, matches: list[Match], used: Counter[str]
    ) -> tuple[int, int, int]:
        """(rows taken, rows refused, rows that none of the tables takes)."""
        taken: list[pl.Series] = []
        refused_count = 0
        for match in matches:
            used[match.entity] += 1
            suffix = f"s{used[match.entity]}" if used[match.entity] > 1 else ""
            reader = TableReader(
                file.file_number,
                self.profile,
                self.pseudonyms,
                self.site_code,
                self.delivery_key,
                suffix,
                with_miscounted=match is matches[0],
            )
            rows = reader.read(grid, match)
            if match.table.is_folded:
                dated = rows.accepted.with_columns(rows.dated.alias(DATED))
                self._told_in_parts.setdefault(match.entity, []).append(dated)
            else:
                self._whole.setdefault(match.entity, []).append(rows.accepted)
            self._refused.append(rows.refused)
            taken.append(rows.taken)
            refused_count += rows.refused.height
        left_out = 0
        if all(match.table.where or match.table.long for match in matches):
            start = min(match.header_index for match in matches) + 1
            below = sum(any(cell.strip() for cell in row) for row in grid.rows[start:])
            left_out = below - pl.concat(taken).n_unique()
        return sum(len(rows) for rows in taken), refused_count, left_out

    def result(self) -> RegistryResult:
        """Tables, refusals and fates, records told in parts put together."""
        tables = {entity: list(frames) for entity, frames in self._whole.items()}
        folded_count = 0
        for name, frames in self._told_in_parts.items():
            entity = load_dictionary().entities[name]
            folded = fold(pl.concat(frames), entity, combinations(self.profile, name))
            tables.setdefault(name, []).append(folded.rows)
            folded_count += folded.folded_count
            self._refuse_folded(folded.refused)
        for number, fate in self.fates.items():
            LOGGER.info(
                "registry file %d: %s, %d rows, %d refused", number, fate.status, fate.rows_count, fate.refused_count
            )
        return RegistryResult(
            {entity: pl.concat(frames) for entity, frames in tables.items()},
            pl.concat(self._refused) if self._refused else pl.DataFrame(schema=REFUSAL_SCHEMA),
            self.fates,
            folded_count,
        )

    def _refuse_folded(self, refused: pl.DataFrame) -> None:
        self._refused.append(refused)
        for number, count in Counter(refused.get_column("file_number").to_list()).items():
            fate = self.fates[number]
            self.fates[number] = replace(fate, refused_count=fate.refused_count + count)


def _notes(
    matched: Sequence[tuple[Grid, list[Match]]], failed: Sequence[tuple[Grid, RegistryFate]], left_out_count: int
) -> list[str]:
    """What of a file that is used was left out."""
    notes = []
    unknown = sum(len(frozenset.intersection(*(match.unknown for match in matches))) for _, matches in matched)
    if unknown:
        notes.append(f"{unknown} column(s) are not in the source profile and were left out.")
    if left_out_count:
        notes.append(f"{left_out_count} row(s) hold nothing that the source profile takes and were left out.")
    strange = [fate for _, fate in failed if fate.reason_code == "unknown_table"]
    if strange:
        notes.append(f"{len(strange)} sheet(s) hold no registry table and were left out.")
    for grid, fate in failed:
        if fate.reason_code not in ("unknown_table", "empty_file"):
            notes.append(f"Sheet {grid.sheet_number} was left out. {fate.reason}")
    return notes
