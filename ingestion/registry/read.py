"""All registry tables of a delivery, file by file.

Here: the order of steps and what is said of each file. Not here: the steps. Identifiers end in this package: they go to
the pseudonym table and into no result.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ingestion.profile import Profile
from ingestion.registry.convert import REFUSAL_SCHEMA, TableReader
from ingestion.registry.grids import TEXT_ENDINGS, WORKBOOK_ENDINGS, read_grids
from ingestion.registry.match import choose
from ingestion.registry.model import FileRefused, Grid, Match, RegistryFate, RegistryFile, RegistryResult
from warehouse.pseudonyms import Pseudonyms

LOGGER = logging.getLogger(__name__)


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
        except FileRefused as refused:
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
    matched: list[tuple[Grid, Match]] = []
    failed: list[tuple[Grid, RegistryFate]] = []
    for grid in read_grids(file.path, profile):
        try:
            matched.append((grid, choose(grid, file.path, profile)))
        except FileRefused as refused:
            failed.append((grid, refused.fate))
    failed = [(grid, fate) for grid, fate in failed if fate.reason_code != "empty_file"] or failed[:1]
    if not matched:
        return failed[0][1]  # a workbook's first sheet that is not blank speaks for the file
    rows_count = refused_count = 0
    used: Counter[str] = Counter()
    for grid, match in matched:
        used[match.entity] += 1
        suffix = f"s{used[match.entity]}" if used[match.entity] > 1 else ""
        reader = TableReader(file.file_number, profile, pseudonyms, site_code, delivery_key, suffix)
        accepted, refused_rows = reader.read(grid, match)
        parts.setdefault(match.entity, []).append(accepted)
        refusals.append(refused_rows)
        rows_count += accepted.height + refused_rows.height
        refused_count += refused_rows.height
    notes = _notes([match for _, match in matched], failed)
    return RegistryFate(
        "accepted",
        "partly_used" if notes else None,
        " ".join(notes) or None,
        tuple(used),
        rows_count,
        refused_count,
    )


def _notes(matches: Sequence[Match], failed: Sequence[tuple[Grid, RegistryFate]]) -> list[str]:
    """What of a file that is used was left out."""
    notes = []
    if unknown := sum(match.unknown_count for match in matches):
        notes.append(f"{unknown} column(s) are not in the source profile and were left out.")
    strange = [fate for _, fate in failed if fate.reason_code == "unknown_table"]
    if strange:
        notes.append(f"{len(strange)} sheet(s) hold no registry table and were left out.")
    for grid, fate in failed:
        if fate.reason_code not in ("unknown_table", "empty_file"):
            notes.append(f"Sheet {grid.sheet_number} was left out. {fate.reason}")
    return notes
