"""A first source profile for files nobody has described yet, for a person to finish.

Here: which variable each column may be, how sure that is, and the YAML. Not here: reading with a profile (`read`), or
REDCap's own data dictionary (`redcap`). Samples are shown so that nobody is recognised by them: words only where they
are known codes, numbers only where they are short, everything else as its shape.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ingestion.profile import Column, Profile
from ingestion.registry.grids import HEADER_ROWS, read_grids
from ingestion.registry.model import FileRefused, Grid
from ingestion.registry.values import ColumnReader
from warehouse.dictionary import Entity, Variable, load_dictionary
from warehouse.errors import RanvierError

WORDS = Path(__file__).parent / "words.yaml"
ROWS = 2000
"""Rows that are looked at; more tell nothing new."""
LEAST = 0.5
"""Confidence, 0 to 1, below which a column is left marked as unknown."""
SAMPLES = 3
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
DATE_FORMATS = (
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%d/%m/%y", "%d.%m.%y", "%d-%b-%Y",
    "%m/%Y", "%m.%Y", "%Y-%m", "%Y", "epoch_ms", "excel",
)  # fmt: skip
"""Tried in this order; of two that read equally many dates the first is proposed."""


@dataclass(frozen=True)
class ColumnDraft:
    """What one column is taken for; `variable` is None when nothing fits."""

    place: str
    """File and sheet, as given."""
    column: str
    entity: str | None = None
    variable: str | None = None
    confidence: float = 0.0
    samples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)
    """The fields of the profile's column."""


@dataclass(frozen=True)
class ProfileDraft:
    """A profile to be finished, and what every column was taken for."""

    profile: dict[str, Any]
    columns: tuple[ColumnDraft, ...]
    lacking: tuple[str, ...]
    """`entity.variable` of everything required that no column was found for."""

    def as_yaml(self) -> str:
        """The profile, with a comment for each column that a person has to look at."""
        lines = ["# Drafted by `ranvier site profile`: a person must check every line."]
        for column in self.columns:
            if column.variable is None:
                lines.append(f"# ?  {column.column}: no variable was found ({', '.join(column.samples)})")
            elif column.confidence < 1 or column.notes:
                said = [f"{column.entity}.{column.variable} at {column.confidence:.0%}", *column.notes]
                lines.append(f"#    {column.column}: {'; '.join(said)}")
        lines += [f"# !  {name} is required and no column was found for it" for name in self.lacking]
        return "\n".join([*lines, yaml.safe_dump(self.profile, sort_keys=False, allow_unicode=True, width=120)])


def draft_profile(paths: Sequence[Path], name: str) -> ProfileDraft:
    """Draft a profile that reads files like these.

    Raises
    ------
    RanvierError
        A file cannot be read as a table; the text names it and says why.
    """
    entities: dict[str, list[dict[str, Any]]] = {}
    columns: list[ColumnDraft] = []
    for path in paths:
        try:
            grids = read_grids(path, Profile(name="draft", entities={}))
        except (FileRefused, OSError) as error:
            raise RanvierError(f"{path.name}: {error if isinstance(error, FileRefused) else error.strerror}") from error
        for grid in grids:
            found = _columns(grid, path)
            columns += found
            for entity, table in _tables(found, grid, path, len(grids) > 1).items():
                entities.setdefault(entity, []).append(table)
    profile = {"name": name, "own_names": False, "entities": entities}
    drafted = {(c.entity, c.variable) for c in columns}
    dictionary = load_dictionary().entities
    required = [(e, v.name) for e in entities for v in dictionary[e].variables if v.required or v.name == "patient_id"]
    lacking = tuple(f"{e}.{v}" for e, v in required if (e, v) not in drafted and v != "patient_id")
    if not entities:
        raise RanvierError("No column of these files looks like a patient's identifier beside a known variable")
    return ProfileDraft(profile, tuple(columns), lacking)


def _tables(columns: list[ColumnDraft], grid: Grid, path: Path, has_sheets: bool) -> dict[str, dict[str, Any]]:
    """Entity -> its table of the profile, for one grid."""
    patient = next((column for column in columns if column.variable == "patient_id"), None)
    if patient is None:
        return {}
    entities = list(dict.fromkeys(c.entity for c in columns if c.entity and c.variable != "patient_id"))
    kind, pattern = ("sheets", str(grid.sheet)) if has_sheets else ("files", re.sub(r"\d+", "*", path.stem))
    tables: dict[str, dict[str, Any]] = {}
    for entity in entities:
        mine = {c.column: c.how if len(c.how) > 1 else c.variable for c in columns if c.entity == entity}
        mine.pop(patient.column, None)
        shared = {"beside": True, "fold": True} if len(entities) > 1 else {}
        tables[str(entity)] = {kind: [pattern], **shared, "columns": {patient.column: "patient_id", **mine}}
    return tables


# ---- columns


@dataclass(frozen=True)
class _Candidate:
    confidence: float
    entity: Entity
    variable: Variable
    how: dict[str, Any]
    notes: tuple[str, ...]


def _columns(grid: Grid, path: Path) -> list[ColumnDraft]:
    """What each column of a grid is taken for: the surest pairs first, no variable twice."""
    start, header = _header(grid)
    place = f"{path.name}, {grid.sheet}" if grid.sheet else path.name
    rows = [row for row in grid.rows[start + 1 : start + 1 + ROWS] if row]
    cells = {
        position: [row[position] if position < len(row) else "" for row in rows]
        for position, name in enumerate(header)
        if name.strip()
    }
    pairs = [(c, position) for position in cells for c in _candidates(header[position], cells[position], grid)]
    weight: dict[str, float] = {}
    for candidate, _ in pairs:
        weight[candidate.entity.name] = weight.get(candidate.entity.name, 0.0) + candidate.confidence
    pairs.sort(key=lambda pair: (-pair[0].confidence, -weight[pair[0].entity.name]))
    chosen: dict[int, _Candidate] = {}
    used: set[str] = set()
    for candidate, position in pairs:
        # A variable's name is the same in every table that has it: the patient's identifier is one column.
        if position not in chosen and candidate.variable.name not in used:
            chosen[position] = candidate
            used.add(candidate.variable.name)
    _drop_homeless(chosen)
    return [_drafted(place, header[p].strip(), chosen.get(p), cells[p]) for p in cells]


def _drop_homeless(chosen: dict[int, _Candidate]) -> None:
    """Forget proposals for a table whose date or other key was not found: its rows could not be told apart."""
    names = {candidate.variable.name for candidate in chosen.values()}
    for position, candidate in list(chosen.items()):
        keys = [name for name in candidate.entity.key if candidate.entity.variable(name).required]
        if candidate.variable.name != "patient_id" and not names.issuperset(keys):
            del chosen[position]


def _drafted(place: str, name: str, candidate: _Candidate | None, cells: list[str]) -> ColumnDraft:
    if candidate is None:
        return ColumnDraft(place, name, samples=_samples(cells, None, set()))
    known = {text for text, code in candidate.how.get("values", {}).items() if code is not None}
    variable = candidate.variable
    return ColumnDraft(
        place,
        name,
        candidate.entity.name,
        variable.name,
        round(candidate.confidence, 2),
        _samples(cells, variable, known | set(variable.codes or {})),
        candidate.notes,
        candidate.how,
    )


def _header(grid: Grid) -> tuple[int, list[str]]:
    """The first of the rows that have the most different texts among the first ones."""
    rows = [(index, row) for index, row in enumerate(grid.rows[: HEADER_ROWS * 2]) if row][:HEADER_ROWS]
    if not rows:
        return 0, []
    counts = [len({cell.strip() for cell in row if cell.strip() and not cell.strip()[0].isdigit()}) for _, row in rows]
    return rows[counts.index(max(counts))]


def _candidates(name: str, cells: list[str], grid: Grid) -> Iterable[_Candidate]:
    """Every variable that a column may be, with how sure that is."""
    given = pl.Series([cell for cell in cells if cell.strip()], dtype=pl.String)
    for entity in load_dictionary().entities.values():
        for variable in entity.variables:
            alike = likeness(name, variable.name)
            if alike < LEAST:
                continue
            how, notes, fit = _fit(variable, given, grid)
            confidence = alike * (0.4 + 0.6 * fit)
            if confidence >= LEAST:
                yield _Candidate(confidence, entity, variable, {"variable": variable.name, **how}, notes)


def _plain(text: str) -> str:
    """Letters and digits of a text, without accents, case and what stands in brackets."""
    text = re.sub(r"\([^)]*\)", " ", unicodedata.normalize("NFC", text.casefold())).translate(UMLAUTS)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9+]+", text))


@lru_cache(maxsize=1)
def _words() -> dict[str, dict[str, list[str]]]:
    raw = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return {kind: {key: [_plain(word) for word in words] for key, words in raw[kind].items()} for kind in raw}


@lru_cache(maxsize=1 << 16)
def likeness(name: str, variable: str) -> float:
    """How alike a column's name is to what a variable is called, 0 to 1."""
    plain = _plain(name)
    best = 0.0
    for word in [_plain(variable.replace("_", " ")), *_words()["columns"].get(variable, [])]:
        if plain == word:
            return 1.0
        if len(word) > 3 and set(word.split()) <= set(plain.split()):
            best = max(best, 0.8 + 0.1 * len(word) / len(plain))
        matcher = difflib.SequenceMatcher(None, plain, word)
        # The quick bounds spare the full comparison for most words.
        if matcher.real_quick_ratio() > 0.8 and matcher.quick_ratio() > 0.8 and (ratio := matcher.ratio()) > 0.8:
            best = max(best, ratio * 0.9)
    return best


# ---- content


def _fit(variable: Variable, cells: pl.Series, grid: Grid) -> tuple[dict[str, Any], tuple[str, ...], float]:
    """How a column would be read as a variable, what to look at, and the share of its cells that can be read so."""
    if variable.type == "string" or cells.is_empty():
        return {}, (), 1.0
    how: dict[str, Any] = {}
    notes: list[str] = []
    if variable.type == "date":
        how, notes = _dates(variable, cells, grid)
    elif variable.type in ("integer", "decimal"):
        how = {"decimal_comma": True} if cells.str.contains(r"^\d+,\d+$").any() and not grid.is_typed else {}
    elif variable.type == "code":
        how, notes = _codes(variable, cells)
    return how, tuple(notes), _share(variable, how, cells, grid)


def _share(variable: Variable, how: dict[str, Any], cells: pl.Series, grid: Grid) -> float:
    words = {"true_values": ["1", "true", "yes", "y", "oui", "ja", "si", "sì"]}
    words |= {"false_values": ["0", "false", "no", "n", "non", "nein"]}
    profile = Profile.model_validate({"name": "draft", "entities": {}, **words})
    reading = ColumnReader.of(variable, Column(variable=variable.name, **how), profile, grid).read(cells)
    given = len(reading.texts.drop_nulls())
    return len(reading.values.drop_nulls()) / given if given else 1.0


def _dates(variable: Variable, cells: pl.Series, grid: Grid) -> tuple[dict[str, Any], list[str]]:
    """The formats that together read the most cells, and whether days and months can be told apart."""
    shares = {form: _share(variable, {"date_formats": [form]}, cells, grid) for form in DATE_FORMATS}
    best = max(shares, key=lambda form: shares[form])
    if shares[best] == 0:
        return {}, []
    formats, share = [best], shares[best]
    for form in DATE_FORMATS:
        more = _share(variable, {"date_formats": [*formats, form]}, cells, grid)
        if more > share:
            formats, share = [*formats, form], more
    twin = {"%d/%m/%Y": "%m/%d/%Y"}.get(best)
    # What stands in a profile's date_formats when nothing is said need not be said.
    how = {} if formats == Profile.model_fields["date_formats"].default else {"date_formats": formats}
    unclear = twin is not None and shares[twin] == shares[best] and not grid.is_typed
    return how, ["its values do not tell day from month"] if unclear else []


def code_of(variable: Variable, text: str) -> str | None:
    """The code that a site's word stands for: its own name or meaning, or a word that is known for it."""
    own = {_plain(code.replace("_", " ")): code for code in variable.codes or {}}
    for code, meaning in (variable.codes or {}).items():
        own.setdefault(_plain(meaning), code)
        own |= {word: code for word in _words()["codes"].get(code, [])}
    return own.get(_plain(text))


def _codes(variable: Variable, cells: pl.Series) -> tuple[dict[str, Any], list[str]]:
    """The site's words for codes that are known, and how many are not."""
    values: dict[str, str] = {}
    unknown = 0
    for text in sorted(set(cells.str.strip_chars().to_list())):
        meant = code_of(variable, text)
        if meant is None:
            unknown += 1
        elif meant.casefold() != text.casefold():
            values[text] = meant
    notes = [f"{unknown} of its codes are not known: add them to its values"] if unknown else []
    return ({"values": values} if values else {}), notes


def _samples(cells: list[str], variable: Variable | None, known: set[str]) -> tuple[str, ...]:
    """A few values: known codes and short numbers as they are, everything else as its shape."""
    folded = {text.casefold() for text in known}
    is_secret = variable is not None and (variable.is_identifier or variable.type == "date")
    shown: dict[str, None] = {}
    for cell in (cell.strip() for cell in cells):
        if not cell:
            continue
        is_plain = not is_secret and variable is not None
        if is_plain and (cell.casefold() in folded or re.fullmatch(r"-?\d{1,3}([.,]\d{1,3})?", cell)):
            shown[cell] = None
        else:
            shown[re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", cell))[:24]] = None
        if len(shown) == SAMPLES:
            break
    return tuple(shown)
