"""A REDCap project becomes a source profile: its data dictionary and a record export drafted for a person to finish.

Here: reading the 18 columns of a data dictionary, what a record export tells of events and repeating instruments, and
the draft. Not here: reading records, which the drafted profile makes an ordinary table. Nothing of a record is kept but
the names of its events and instruments.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ingestion.profile import Profile, normal
from ingestion.registry.draft import code_of, likeness
from ingestion.registry.grids import read_grids
from ingestion.registry.model import FileRefused
from warehouse.dictionary import Entity, Variable, load_dictionary
from warehouse.errors import RanvierError

NAME, FORM, KIND, LABEL = "Variable / Field Name", "Form Name", "Field Type", "Field Label"
CHOICES = "Choices, Calculations, OR Slider Labels"
VALIDATION = "Text Validation Type OR Show Slider Number"
MINIMUM, MAXIMUM, IDENTIFIER, REQUIRED = "Text Validation Min", "Text Validation Max", "Identifier?", "Required Field?"
NEEDED = (NAME, FORM, KIND, LABEL, CHOICES, VALIDATION, MINIMUM, MAXIMUM, IDENTIFIER, REQUIRED)
EVENT, INSTRUMENT, INSTANCE = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
NO_DATA = ("descriptive", "file")
CHOSEN = ("dropdown", "radio", "checkbox")
LEAST_LIKENESS = 0.8
"""How alike a field and a variable must be to be proposed, 0 to 1; a person decides in any case."""
OF_FORM = 0.08
"""What it adds when the field's form is called like the variable's table."""


@dataclass(frozen=True)
class RedcapField:
    """One row of a data dictionary."""

    name: str
    form: str
    kind: str
    label: str
    choices: dict[str, str]
    """Raw value -> label."""
    validation: str
    minimum: str
    maximum: str
    is_identifier: bool
    is_required: bool

    @property
    def type(self) -> str:
        """Type of the dictionary that holds its values."""
        if self.kind in ("yesno", "truefalse"):
            return "boolean"
        if self.kind in CHOSEN:
            return "code"
        if self.validation.startswith("date"):
            return "date"
        if self.kind in ("calc", "slider") or self.validation.startswith("number"):
            return "decimal"
        return "integer" if self.validation == "integer" else "string"


@dataclass(frozen=True)
class Proposal:
    """What a column of the record export is taken for."""

    column: str
    form: str
    label: str
    entity: str | None = None
    variable: str | None = None
    likeness: float = 0.0
    values: dict[str, str | None] = field(default_factory=dict)
    open_choices: tuple[str, ...] = ()
    """Labels of choices that no code of the variable was found for."""


@dataclass(frozen=True)
class Draft:
    """A profile to be finished, and what it could not place."""

    profile: dict[str, Any]
    proposals: tuple[Proposal, ...]
    variables: tuple[dict[str, Any], ...]
    """Fields that the dictionary lacks, as its YAML would declare them: of no tier until a person decides."""
    notes: tuple[str, ...]

    def profile_yaml(self) -> str:
        """The profile, with a comment per column that a person has to look at."""
        lines = [f"# {note}" for note in self.notes]
        for proposal in self.proposals:
            if proposal.variable is None:
                lines.append(f"# {proposal.column} ({proposal.form}): no variable was found.")
            elif proposal.likeness < 1:
                lines.append(f"# {proposal.column}: {proposal.variable} is a guess ({proposal.likeness:.0%} alike).")
            if proposal.open_choices:
                lines.append(f"# {proposal.column}: no code was found for {', '.join(proposal.open_choices)}.")
        text = yaml.safe_dump(self.profile, sort_keys=False, allow_unicode=True, width=120)
        return "\n".join([*lines, text])

    def variables_yaml(self) -> str:
        """The variables that the dictionary lacks, for the network to define."""
        return yaml.safe_dump({"variables": list(self.variables)}, sort_keys=False, allow_unicode=True, width=120)


def read_data_dictionary(path: Path) -> list[RedcapField]:
    """Fields of a data dictionary as REDCap exports it (CSV, 18 columns).

    Raises
    ------
    RanvierError
        The file is not one; the text names the columns that are missing, or the row.
    """
    try:
        (grid, *_) = read_grids(path, Profile(name="redcap", separator=",", entities={}))
    except FileRefused as error:
        raise RanvierError(f"{path.name}: {error.fate.reason}") from error
    header = [cell.strip() for cell in grid.rows[0]]
    if missing := [name for name in NEEDED if name not in header]:
        raise RanvierError(
            f"{path.name} is no REDCap data dictionary: it lacks the columns {', '.join(missing)}; download it again "
            "in REDCap's designer"
        )
    fields = []
    for number, row in enumerate(grid.rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header):
            raise RanvierError(f"{path.name}: row {number} has {len(row)} cells in the place of {len(header)}")
        fields.append(_field(dict(zip(header, (cell.strip() for cell in row), strict=False))))
    if not fields:
        raise RanvierError(f"{path.name} has no field below its header")
    return fields


def _field(row: dict[str, str]) -> RedcapField:
    kind = row[KIND].casefold()
    return RedcapField(
        name=row[NAME],
        form=row[FORM],
        kind=kind,
        label=_plain(row[LABEL]),
        choices=_choices(row[CHOICES]) if kind in CHOSEN else {},
        validation=row[VALIDATION].casefold(),
        minimum=row[MINIMUM],
        maximum=row[MAXIMUM],
        is_identifier=row[IDENTIFIER].casefold() == "y",
        is_required=row[REQUIRED].casefold() == "y",
    )


def _choices(text: str) -> dict[str, str]:
    """`1, Female | 2, Male` as raw value -> label; a choice without a comma is its own label."""
    pairs = [choice.partition(",") for choice in text.split("|") if choice.strip()]
    return {raw.strip(): _plain(label or raw) for raw, _, label in pairs}


def _plain(text: str) -> str:
    """A label without its markup, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


# ---- what an export tells


@dataclass(frozen=True)
class ExportFacts:
    """How a record export is laid out."""

    columns: frozenset[str]
    repeating: frozenset[str]
    """Instruments that stand in `redcap_repeat_instrument`."""
    is_gray_blank: bool
    """Whether an instrument that was never opened has an empty status."""


def read_export(path: Path) -> ExportFacts:
    """Columns, repeating instruments and the meaning of an empty status of a record export (CSV, raw values).

    Raises
    ------
    RanvierError
        The file cannot be read as a table.
    """
    try:
        (grid, *_) = read_grids(path, Profile(name="redcap", separator=",", entities={}))
    except FileRefused as error:
        raise RanvierError(f"{path.name}: {error.fate.reason}") from error
    header = [cell.strip() for cell in grid.rows[0]]
    rows = [row for row in grid.rows[1:] if any(cell.strip() for cell in row)]
    repeating: set[str] = set()
    if INSTRUMENT in header:
        place = header.index(INSTRUMENT)
        repeating = {row[place].strip() for row in rows if row[place].strip()}
    status = [place for place, name in enumerate(header) if name.endswith("_complete")]
    # A repeated row leaves the status of all other instruments empty, so only plain rows tell.
    plain = [row for row in rows if INSTRUMENT not in header or not row[header.index(INSTRUMENT)].strip()]
    is_blank = any(not row[place].strip() for row in plain for place in status)
    return ExportFacts(frozenset(header), frozenset(repeating), is_blank)


# ---- the draft


def draft(fields: Sequence[RedcapField], export: ExportFacts, name: str, file_pattern: str = "*_data_*") -> Draft:
    """Draft a profile that reads record exports of a project.

    Parameters
    ----------
    fields
        The project's data dictionary; its first field is the record, taken for the patient.
    export
        What a record export of the project tells.
    name
        Name of the profile.
    file_pattern
        How the files of record exports are called, without their ending.

    Returns
    -------
    Draft
        A field is proposed for one variable at most, and a variable for one field at most: the likest pair first.
    """
    record = fields[0].name
    columns = [column for f in fields[1:] if f.kind not in NO_DATA for column in _columns_of(f)]
    placed = _place(columns)
    proposals = [placed.get(column, Proposal(column, f.form, label)) for column, f, label in columns]
    entities: dict[str, list[dict[str, Any]]] = {}
    notes = ["Drafted from the REDCap project's data dictionary: a person must check every line."]
    chosen = {(p.entity, p.form) for p in proposals if p.entity}
    for entity, form in sorted(chosen, key=str):
        mine = [p for p in proposals if p.entity == entity and p.form == form]
        assert entity is not None
        where, note = _where(load_dictionary().entities[entity], form, mine, export)
        notes += [note] if note else []
        table = {
            "files": [file_pattern],
            "beside": True,
            "columns": {record: "patient_id"} | {p.column: _column(p) for p in mine},
            "where": where,
        }
        entities.setdefault(entity, []).append({key: value for key, value in table.items() if value})
    profile = {"name": name, "own_names": False, "by_name": True, "entities": entities}
    unplaced = {p.column for p in proposals if p.variable is None}
    lacking = [f for f in fields[1:] if f.kind not in NO_DATA and {c for c, _, _ in _columns_of(f)} & unplaced]
    return Draft(profile, tuple(proposals), tuple(_declared(f) for f in lacking), tuple(notes))


def _column(proposal: Proposal) -> str | dict[str, Any]:
    if not proposal.values:
        return str(proposal.variable)
    return {"variable": proposal.variable, "values": proposal.values}


def _columns_of(f: RedcapField) -> list[tuple[str, RedcapField, str]]:
    """(column of the record export, field, label): a checkbox has a column of 0 and 1 per choice."""
    if f.kind == "checkbox":
        return [(f"{f.name}___{raw.lower()}", f, f"{f.label} {label}") for raw, label in f.choices.items()]
    return [(f.name, f, f.label)]


def _where(
    entity: Entity, form: str, proposals: Sequence[Proposal], export: ExportFacts
) -> tuple[dict[str, list[str]], str | None]:
    """Which rows of the export are rows of the entity, and what a person should know about that choice."""
    where: dict[str, list[str]] = {}
    if INSTRUMENT in export.columns:
        where[INSTRUMENT] = [form] if form in export.repeating else [""]
    if form in export.repeating:
        return where, None
    status = f"{form}_complete"
    if export.is_gray_blank and status in export.columns:
        return where | {status: ["0", "1", "2"]}, None
    required = [v.name for v in entity.stored_variables if v.required]
    telling = [name for name in (entity.event_date, *entity.key, *required) if name]
    key = next((p.column for name in telling for p in proposals if p.variable == name), None)
    if key is None:
        return where, None
    note = (
        f"Rows of {form} without {key} are left out, because the export does not tell them from forms never opened; "
        "export with gray form status as blank to have them refused with a reason."
    )
    return where | {key: ["?*"]}, note


def _declared(f: RedcapField) -> dict[str, Any]:
    """A field as the dictionary would declare it. Its tier is none, so that nobody sees it before it is decided."""
    kind = f.type
    said: dict[str, Any] = {"name": f.name, "type": kind, "definition": f.label or f.name, "source": "REDCap project"}
    if f.choices:
        said["codes"] = f.choices
    if f.is_required:
        said["required"] = True
    for name, text in (("minimum", f.minimum), ("maximum", f.maximum)):
        if kind in ("integer", "decimal") and re.fullmatch(r"-?\d+(\.\d+)?", text):
            said |= {name: float(text), "rule": f"{f.name.upper()}_range"}
    return said | {"tier": "none", "disclosure": "identifier" if f.is_identifier else "sensitive"}


def _place(columns: Sequence[tuple[str, RedcapField, str]]) -> dict[str, Proposal]:
    """Column -> proposal, the likest pairs first."""
    pairs = []
    for column, f, label in columns:
        for entity in load_dictionary().entities.values():
            for variable in entity.variables:
                share = _likeness(column, f, label, entity, variable)
                if share >= LEAST_LIKENESS:
                    pairs.append((share, column, f, label, entity, variable))
    pairs.sort(key=lambda pair: -pair[0])
    tables = _tables_of_forms(pairs)
    found: dict[str, Proposal] = {}
    used: set[tuple[str, str]] = set()
    for share, column, f, label, entity, variable in pairs:
        if column in found or (entity.name, variable.name) in used or variable.name == "patient_id":
            continue
        if entity.name not in tables[f.form]:
            continue
        used.add((entity.name, variable.name))
        values, open_choices = _values(f, variable)
        found[column] = Proposal(
            column, f.form, label, entity.name, variable.name, round(share, 2), values, open_choices
        )
    return found


def _tables_of_forms(pairs: Sequence[tuple[float, str, RedcapField, str, Entity, Variable]]) -> dict[str, set[str]]:
    """Form -> tables its fields may go to: the one that explains most of it, for the patient the consent besides."""
    best: dict[str, dict[str, dict[str, float]]] = {}
    for share, column, f, _, entity, _ in pairs:
        columns = best.setdefault(f.form, {}).setdefault(entity.name, {})
        columns[column] = max(share, columns.get(column, 0.0))
    tables = {}
    for form, by_entity in best.items():
        first = max(by_entity, key=lambda name: sum(by_entity[name].values()))
        tables[form] = {"patient", "consent"} if first in ("patient", "consent") else {first}
    return tables


def _likeness(column: str, f: RedcapField, label: str, entity: Entity, variable: Variable) -> float:
    """How alike a column and a variable are, 0 to 1; 0 where the column's values cannot be the variable's."""
    if normal(column) == normal(variable.name):
        return 1.0
    kind = "boolean" if f.kind == "checkbox" else f.type
    fits = {kind, "string"} if kind != "integer" else {"integer", "decimal"}
    if kind == "string":
        fits = {"string", "decimal", "integer", "date"} if not f.validation else {"string"}
    if variable.type not in fits:
        return 0.0
    # The first clause of a definition names the thing; what follows qualifies it.
    clause = re.split(r"[;,.]", variable.definition)[0]
    best = max(likeness(column, variable.name), likeness(label, variable.name), _alike(normal(label), normal(clause)))
    # Within a form that carries the table's name the same words mean the table's variable.
    is_of_form = _alike(normal(f.form), normal(entity.name)) > LEAST_LIKENESS
    return min(0.99, best + OF_FORM * is_of_form)


@lru_cache(maxsize=1 << 16)
def _alike(one: str, other: str) -> float:
    """How alike two texts are, 0 to 1; 0 without a closer look where they cannot be alike enough."""
    matcher = difflib.SequenceMatcher(None, one, other)
    least = LEAST_LIKENESS - OF_FORM
    if not one or matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return 0.0
    return matcher.ratio()


def _values(f: RedcapField, variable: Variable) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Raw value -> code, where they differ; and the labels for which there is no code."""
    if not variable.codes or f.kind == "checkbox":
        return {}, ()
    values: dict[str, str | None] = {}
    left = []
    for raw, label in f.choices.items():
        code = code_of(variable, label)
        if code is None:
            left.append(label)
        else:
            values[raw] = code
    return {raw: code for raw, code in values.items() if raw != code}, tuple(left)
