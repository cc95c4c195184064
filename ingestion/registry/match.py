"""From cells to entities: which tables of the profile a grid holds, and where its header stands.

Here: comparing the first rows with the columns of a source profile. Not here: reading values (`convert`). Reasons name
what the profile knows, never what a site's header says.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

from ingestion.profile import Column, Profile, Table, normal
from ingestion.registry.grids import HEADER_ROWS
from ingestion.registry.model import FileRefused, Grid, Match


def choose(grid: Grid, path: Path, profile: Profile) -> list[Match]:
    """The tables a grid holds: the one that fits best, and those the profile wants read beside it.

    Raises
    ------
    FileRefused
        No entity's columns are there, or two fit equally well; the text names the nearest one and what to do.
    """
    candidates = [index for index, row in enumerate(grid.rows) if row][:HEADER_ROWS]
    if not candidates:
        raise FileRefused("empty_file", "The table is empty; export it again and send it.")
    tables = [(entity, table) for entity, tables in profile.entities.items() for table in tables]
    besides: list[Match] = []
    matches: list[Match] = []
    for entity, table in tables:
        found = [_match(grid, index, entity, table, path, profile) for index in candidates]
        if table.beside:
            best = max(found, key=lambda match: match.rank)
            besides += [best] if best.is_named and best.is_table else []
        else:
            matches += found
    if profile.by_name:
        matches = [match for match in matches if match.is_named]
    best_match = max(matches, key=lambda match: match.rank, default=None)
    if besides and (best_match is None or not (best_match.is_table and best_match.is_named)):
        chosen = besides
    else:
        chosen = [_checked(best_match, matches, grid, candidates, path, profile), *besides]
    for match in chosen:
        _check_duplicates(match)
    return chosen


def _checked(
    best: Match | None, matches: list[Match], grid: Grid, candidates: list[int], path: Path, profile: Profile
) -> Match:
    """The best match, when it is one and the only one."""
    is_text = path.suffix.lower() == ".txt"
    if best is None:
        raise FileRefused(
            "unknown_table",
            f"Its name is none of those that the source profile {profile.name!r} knows; give the file the agreed name, "
            "or ask the data manager to add it.",
            not is_text,
        )
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
        raise FileRefused(
            "missing_column",
            f"The nearest table is {best.entity} ({best.known_count} column(s) known), but it lacks "
            f"{_lacking(best, profile)}; add it and send the file again.",
            not is_text or best.is_named or len(best.positions) > 1,
        )
    equal = {match.entity for match in matches if match.rank == best.rank}
    if len(equal) > 1:
        raise FileRefused(
            "ambiguous_table",
            f"Its columns fit {' and '.join(sorted(equal))} equally well; put the table's name into the file name.",
        )
    return best


def _lacking(match: Match, profile: Profile) -> str:
    if not match.has_patient and "patient_id" in match.table.from_name:
        return "the patient in its file name"
    if not match.has_patient:
        return f"a column for patient_id (named {_names_for(match, 'patient_id', profile)})"
    if match.lacking:
        return f"a column {' and '.join(match.lacking)}"
    return "a column beside the patient's identifier"


def _check_duplicates(match: Match) -> None:
    if match.duplicated:
        raise FileRefused(
            "duplicate_column",
            f"Two columns of this {match.entity} table mean {match.duplicated}; keep one and send the file again.",
        )


def _names_for(match: Match, variable: str, profile: Profile) -> str:
    names = [source for source, column in match.table.columns.items() if column.variable == variable]
    if profile.own_names:
        names.append(variable)
    return " or ".join(dict.fromkeys(names))


def _match(grid: Grid, index: int, entity: str, table: Table, path: Path, profile: Profile) -> Match:
    known = profile.columns_of(entity, table)
    wanted = {normal(name): name for name in table.where}
    if table.dated:
        wanted[normal(table.dated)] = table.dated
    if table.long:
        wanted |= {normal(name): name for name in (table.long.test, table.long.value)}
    positions: dict[str, list[tuple[int, Column]]] = {}
    marks: dict[str, int] = {}
    duplicated = None
    unknown = set()
    for position, cell in enumerate(grid.rows[index]):
        name = normal(cell)
        column = known.get(name)
        if name in wanted:
            duplicated = wanted[name] if name in marks else duplicated
            marks[name] = position
        if column is not None:
            places = positions.setdefault(column.variable, [])
            if places and not (column.combine and places[0][1].combine):
                duplicated = column.variable
            places.append((position, column))
        elif name and name not in wanted:
            unknown.add(position)
    from_name = {
        variable: found.group(1)
        for variable, pattern in table.from_name.items()
        if (found := re.search(pattern, path.stem)) and found.group(1)
    }
    is_named = _any_fits(path.stem, table.files) or (grid.sheet is not None and _any_fits(grid.sheet, table.sheets))
    lacking = tuple(shown for name, shown in wanted.items() if name not in marks)
    return Match(entity, table, index, positions, marks, from_name, is_named, duplicated, lacking, frozenset(unknown))


def _any_fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)
