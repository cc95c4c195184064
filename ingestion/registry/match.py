"""From cells to an entity: which table of the dictionary a grid holds, and where its header stands.

Here: comparing the first rows with the columns of a source profile. Not here: reading values (`convert`). Reasons name
what the profile knows, never what a site's header says.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from ingestion.profile import Column, Profile, normal
from ingestion.registry.grids import HEADER_ROWS
from ingestion.registry.model import FileRefused, Grid, Match


def choose(grid: Grid, path: Path, profile: Profile) -> Match:
    """The entity a grid holds.

    Raises
    ------
    FileRefused
        No entity's columns are there, or two fit equally well; the text names the nearest one and what to do.
    """
    candidates = [index for index, row in enumerate(grid.rows) if row][:HEADER_ROWS]
    if not candidates:
        raise FileRefused("empty_file", "The table is empty; export it again and send it.")
    matches = [_match(grid, index, entity, path, profile) for index in candidates for entity in profile.entities]
    best = max(matches, key=lambda match: match.rank)
    is_text = path.suffix.lower() == ".txt"
    if not best.positions:
        looks_like_table = any(len(grid.rows[index]) > 1 for index in candidates) and not (
            is_text and not best.is_named
        )
        raise FileRefused(
            "unknown_table",
            f"None of its columns is in the source profile {profile.name!r}; send one of the tables "
            f"{', '.join(profile.entities)} with the agreed column names, or ask the data manager to add the columns.",
            looks_like_table,
        )
    if not best.is_table:
        wanted = _names_for(best.entity, "patient_id", profile) if not best.has_patient else None
        lacking = f"a column for patient_id (named {wanted})" if wanted else "a column beside the patient's identifier"
        raise FileRefused(
            "missing_column",
            f"The nearest table is {best.entity} ({len(best.positions)} column(s) known), but it lacks {lacking}; "
            "add it and send the file again.",
            not is_text or best.is_named or len(best.positions) > 1,
        )
    if best.duplicated:
        raise FileRefused(
            "duplicate_column",
            f"Two columns of this {best.entity} table mean {best.duplicated}; keep one and send the file again.",
        )
    equal = {match.entity for match in matches if match.rank == best.rank}
    if len(equal) > 1:
        raise FileRefused(
            "ambiguous_table",
            f"Its columns fit {' and '.join(sorted(equal))} equally well; put the table's name into the file name.",
        )
    return best


def _names_for(entity: str, variable: str, profile: Profile) -> str:
    names = [source for source, column in profile.entities[entity].columns.items() if column.variable == variable]
    if profile.own_names:
        names.append(variable)
    return " or ".join(dict.fromkeys(names))


def _match(grid: Grid, index: int, entity: str, path: Path, profile: Profile) -> Match:
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
    return Match(entity, index, positions, is_named, duplicated, unknown)


def _any_fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)
