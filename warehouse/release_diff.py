"""What differs between two releases, in words and counts.

Here: comparing manifests, columns, and rows by their keys. Not here: any value or key of a subject; a diff may be shown
to whoever may see that there are releases. Rows are compared in the steward's file: it holds every row of the others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from warehouse import manifest, releases
from warehouse.home import Home
from warehouse.policy import load_policy

FACTS = {
    "code_version": "code",
    "dbt_project_sha256": "SQL of the build",
    "dictionary_version": "dictionary version",
    "dictionary_sha256": "dictionary content",
    "duckdb_version": "DuckDB",
    "policy": "policy",
    "small_count_maximum": "largest count that is blanked",
    "rounding": "base of rounding",
}
"""Entries of the manifest that a reader may want to know of, and what they are called."""


@dataclass(frozen=True)
class TableDiff:
    """Rows of one table: told apart by its key, compared in the columns that both releases have."""

    table: str
    added: int
    removed: int
    changed: int
    unchanged: int


@dataclass
class ReleaseDiff:
    """From `old` to `new`."""

    old: str
    new: str
    tables: list[TableDiff] = field(default_factory=list)
    tables_added: list[str] = field(default_factory=list)
    """`file: table`."""
    tables_removed: list[str] = field(default_factory=list)
    columns_added: list[str] = field(default_factory=list)
    """`file: table.column type`."""
    columns_removed: list[str] = field(default_factory=list)
    sites: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Site -> deliveries that came in and that dropped out."""
    facts: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    """Lake tables whose content differs."""
    not_compared: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)

    def words(self) -> list[str]:
        """For a person: one sentence a line."""
        lines = []
        for table in self.tables:
            parts = [
                f"{count} {what}"
                for count, what in ((table.added, "added"), (table.removed, "removed"), (table.changed, "changed"))
                if count
            ]
            if parts:
                lines.append(f"{table.table}: {', '.join(parts)}; {table.unchanged} rows are the same.")
        for site, deliveries in self.sites.items():
            lines += [f"{site}: delivery {key} came in." for key in deliveries["added"]]
            lines += [f"{site}: delivery {key} dropped out." for key in deliveries["removed"]]
        for what, found in (
            ("New table", self.tables_added),
            ("Table gone", self.tables_removed),
            ("New column", self.columns_added),
            ("Column gone", self.columns_removed),
        ):
            lines += [f"{what}: {name}." for name in found]
        for name, (old, new) in self.facts.items():
            lines.append(f"{FACTS[name][0].upper()}{FACTS[name][1:]}: {_short(old)} -> {_short(new)}.")
        if self.inputs:
            lines.append(f"Lake tables that differ: {', '.join(self.inputs)}.")
        lines += [
            f"{table}: its rows have no key in both releases, so only columns were compared."
            for table in self.not_compared
        ]
        return lines or ["Nothing differs but the version."]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('name')} ({str(value.get('sha256'))[:12]})"
    return "not named" if value is None else str(value)[:16]


def diff(home: Home, old: str, new: str) -> ReleaseDiff:
    """Compare two releases of a home.

    Raises
    ------
    ReleaseError
        There is no such release.
    """
    folders = releases.release_folder(home, old), releases.release_folder(home, new)
    before, after = (manifest.read(folder) for folder in folders)
    found = ReleaseDiff(old, new)
    for name in FACTS:
        if before.get(name) != after.get(name):
            found.facts[name] = (before.get(name), after.get(name))
    inputs = before.get("inputs", {}), after.get("inputs", {})
    found.inputs = [table for table in sorted({*inputs[0], *inputs[1]}) if inputs[0].get(table) != inputs[1].get(table)]
    for site in sorted({*before["sites"], *after["sites"]}):
        had, has = (set(side["sites"].get(site, {"deliveries": []})["deliveries"]) for side in (before, after))
        if had != has:
            found.sites[site] = {"added": sorted(has - had), "removed": sorted(had - has)}
    _compare_columns(folders, before, after, found)
    _compare_rows(folders, found)
    return found


def _columns(path: Path) -> dict[str, dict[str, str]]:
    with duckdb.connect(str(path), read_only=True) as db:
        rows = db.execute(
            "select table_name, column_name, data_type from information_schema.columns"
            " where table_catalog = current_database()"
        ).fetchall()
    held: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        held.setdefault(table, {})[column] = kind
    return held


def _compare_columns(
    folders: tuple[Path, Path], before: dict[str, Any], after: dict[str, Any], found: ReleaseDiff
) -> None:
    names = [{name for name in side["files"] if name.endswith(".duckdb")} for side in (before, after)]
    for name in sorted(names[0] | names[1]):
        held = [_columns(folder / name) if name in there else {} for folder, there in zip(folders, names, strict=True)]
        found.tables_added += [f"{name}: {table}" for table in sorted(set(held[1]) - set(held[0]))]
        found.tables_removed += [f"{name}: {table}" for table in sorted(set(held[0]) - set(held[1]))]
        for table in sorted(set(held[0]) & set(held[1])):
            had, has = held[0][table].items(), held[1][table].items()
            found.columns_added += [f"{name}: {table}.{column} {kind}" for column, kind in sorted(has - had)]
            found.columns_removed += [f"{name}: {table}.{column} {kind}" for column, kind in sorted(had - has)]


def _compare_rows(folders: tuple[Path, Path], found: ReleaseDiff) -> None:
    held = [_columns(folder / "steward.duckdb") for folder in folders]
    keys = {table.name: table.key for table in load_policy().tiers["steward"].values()}
    with duckdb.connect(config={"memory_limit": "4GB"}) as db:
        for alias, folder in zip(("a", "b"), folders, strict=True):
            path = str(folder / "steward.duckdb").replace("'", "''")
            db.execute(f"attach '{path}' as {alias} (read_only)")
        for table in sorted(set(held[0]) & set(held[1])):
            both = set(held[0][table]) & set(held[1][table])
            key = keys.get(table, ())
            if not key or not set(key) <= both:
                found.not_compared.append(table)
                continue
            # Every row carries its release's version; it says nothing about the row.
            values = ", ".join(f'"{column}"' for column in sorted(both - set(key) - {"release_version"})) or "1"
            named = ", ".join(f'"{column}"' for column in key)
            same = " and ".join(f'a."{column}" is not distinct from b."{column}"' for column in key)
            sides = [
                f'(select {named}, hash({values}) as content, 1 as is_there from {side}.main."{table}") as {side}'
                for side in "ab"
            ]
            row = db.execute(
                "select count(*) filter (a.is_there is null), count(*) filter (b.is_there is null),"
                " count(*) filter (a.content != b.content), count(*) filter (a.content = b.content)"
                f" from {sides[0]} full outer join {sides[1]} on {same}"
            ).fetchone()
            added, removed, changed, unchanged = row or (0, 0, 0, 0)
            found.tables.append(TableDiff(table, added, removed, changed, unchanged))
