"""Versions of the dictionary: what each one defined, and what to do with data when a definition changes.

Here: `history/<version>.csv` (a fingerprint of each definition, written once) and `history/migrations.yaml` (what
changed and what to do about it, written by hand), and whether they agree with the dictionary. Not here: the
definitions.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from warehouse.dictionary import FOLDER, Dictionary, Variable
from warehouse.errors import DictionaryError

HISTORY = FOLDER / "history"
MEANING = ("type", "unit", "minimum", "maximum", "step", "excluded", "codes", "pattern", "required", "definition")
"""What makes a definition. Source, tier, owner and mappings may change without changing what a value means."""


class Migration(BaseModel):
    """What a version did to one variable, and what becomes of values recorded before."""

    model_config = ConfigDict(extra="forbid")

    change: str
    migration: str


def fingerprint(variable: Variable) -> str:
    """Twelve hexadecimal digits that differ when the meaning of the variable does."""
    meaning = {name: value for name, value in variable.model_dump(mode="json").items() if name in MEANING}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]


def fingerprints(dictionary: Dictionary) -> dict[str, str]:
    """`table.variable` -> fingerprint, for every variable."""
    return {
        f"{entity.name}.{variable.name}": fingerprint(variable)
        for entity in dictionary.entities.values()
        for variable in entity.variables
    }


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def recorded(version: str, folder: Path = HISTORY) -> dict[str, str] | None:
    """`table.variable` -> fingerprint as a version had it; None where the version is not on record."""
    path = folder / f"{version}.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["variable"]: row["fingerprint"] for row in csv.DictReader(handle)}


def record(dictionary: Dictionary, folder: Path = HISTORY) -> None:
    """Put the dictionary's version on record; one that is there already is never written again."""
    if recorded(dictionary.version, folder) is None:
        lines = ["variable,fingerprint", *(f"{name},{mark}" for name, mark in fingerprints(dictionary).items())]
        (folder / f"{dictionary.version}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def migrations(folder: Path = HISTORY) -> dict[str, dict[str, Migration]]:
    """Version -> `table.variable` -> what became of it.

    Raises
    ------
    DictionaryError
        `migrations.yaml` does not hold that.
    """
    raw = yaml.safe_load((folder / "migrations.yaml").read_text(encoding="utf-8")) or {}
    try:
        return {
            str(version): {name: Migration.model_validate(note) for name, note in notes.items()}
            for version, notes in raw.items()
        }
    except (ValidationError, AttributeError) as error:
        raise DictionaryError(f"migrations.yaml: each variable needs change and migration ({error})") from error


def problems(dictionary: Dictionary, folder: Path = HISTORY) -> list[str]:
    """What keeps the dictionary from being the version it says it is, a sentence a line; nothing when all is well."""
    now, version = fingerprints(dictionary), dictionary.version
    on_record = recorded(version, folder)
    if on_record is None:
        return [f"Version {version} is not on record; run: python -m warehouse.catalogue"]
    found = [
        f"{name} differs from what version {version} said; raise VERSION and say in migrations.yaml what to do"
        for name in sorted(now.keys() | on_record.keys())
        if now.get(name) != on_record.get(name)
    ]
    earlier = [p.stem for p in folder.glob("*.csv") if _order(p.stem) < _order(version)]
    before = recorded(max(earlier, key=_order), folder) if earlier else None
    if found or before is None:
        return found
    notes = migrations(folder).get(version, {})
    changed = {name for name, mark in before.items() if now.get(name) != mark}
    found = [f"{name} changed with version {version} and has no note" for name in sorted(changed - notes.keys())]
    found += [f"{name} has a note and did not change" for name in sorted(notes.keys() - changed)]
    since = {f"{e.name}.{v.name}": v.since for e in dictionary.entities.values() for v in e.stored_variables}
    new = sorted(name for name in since.keys() - before.keys() if since[name] != version)
    return found + [f"{name} is new and says it is since {since[name]}" for name in new]
