"""Source profiles: how one site's tables are read, as data a data manager can change.

Here: the format of `profiles/*.yaml` and its loader. Not here: what a variable means (`warehouse.dictionary`) or the
reading itself (`ingestion.registry`). A profile says per entity which files and sheets hold it and which of the site's
columns is which variable, with the site's codes, date formats, units and words for "missing". What takes code
elsewhere is data here too: tables of one row per test, records told in several files, files that hold two entities.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from warehouse.dictionary import Entity, load_dictionary
from warehouse.errors import HomeError
from warehouse.home import Home

FOLDER = Path(__file__).parent / "profiles"
ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250")
SEPARATORS = (",", ";", "\t", "|")
DATE_DIRECTIVES = ("%d", "%m", "%y", "%Y", "%b", "%B")
DATE_NUMBERS = {
    "epoch_ms": "milliseconds since 1970",
    "epoch_s": "seconds since 1970",
    "excel": "a spreadsheet's date number",
}
"""Date formats that are numbers, and how a person would call them."""
COMBINED_TYPES = {"mean": "decimal", "any": "boolean"}


def normal(name: str) -> str:
    """A column name or code as it is compared: without case, accents composed, blanks and underscores as one space."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()


def spoken_format(form: str) -> str:
    """A date format as a person writes it: `%d/%m/%Y` is DD/MM/YYYY."""
    if form in DATE_NUMBERS:
        return DATE_NUMBERS[form]
    words = {"%d": "DD", "%m": "MM", "%Y": "YYYY", "%y": "YY", "%b": "month", "%B": "month"}
    return re.sub(r"%.", lambda found: words[found.group()], form)


def _date_formats(formats: list[str] | None) -> list[str] | None:
    for form in formats or []:
        if form in DATE_NUMBERS:
            continue
        found = re.findall(r"%.", form)
        if strange := [part for part in found if part not in DATE_DIRECTIVES]:
            raise ValueError(f"{strange[0]} in date format {form!r} is none of {' '.join(DATE_DIRECTIVES)}")
        if not {"%Y", "%y"} & set(found):
            raise ValueError(f"date format {form!r} has no year")
    return formats


class Column(BaseModel):
    """How one column of a site is read."""

    model_config = ConfigDict(extra="forbid")

    variable: str
    values: dict[str, str | None] = {}
    """The site's code -> the dictionary's code; null means missing. Case does not matter. Codes of the dictionary that
    are not listed keep their meaning."""
    date_formats: list[str] | None = None
    """Tried in order; `%Y` or `%m/%Y` alone give the first of the year or month, `epoch_ms`, `epoch_s` and `excel` are
    numbers. Default: the profile's."""
    decimal_comma: bool | None = None
    factor: float = Field(default=1.0, gt=0)
    """The site's number times this is the dictionary's unit."""
    missing: list[str] = []
    """Words for "missing" in this column, beside the profile's."""
    extract: str | None = None
    """A regular expression whose group is the value, such as `sub-(.+)`. A cell that does not match is refused."""
    combine: Literal["mean", "first", "any", "latest"] | None = None
    """What becomes of several columns, tests or rows of one record that stand for the same variable: the mean of those
    given, the first one given, whether any is true, or the latest by the table's `dated`. Without it, two that differ
    are refused."""

    _formats = field_validator("date_formats")(_date_formats)

    @field_validator("missing", mode="before")
    @classmethod
    def _missing_words(cls, values: Any) -> Any:
        return [_text(value) for value in values] if isinstance(values, list) else values

    @field_validator("extract")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        return _one_group(pattern) if pattern is not None else None

    @field_validator("values", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {_text(key): None if value is None else _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    """YAML reads `1`, `yes` and `N` as number and booleans; in a profile they are the site's codes."""
    if isinstance(value, bool):
        raise ValueError("write yes, no, on, off, true and false in quotes")
    return str(value)


def _one_group(pattern: str) -> str:
    """The pattern, when the engine that will run it takes it: polars' has no look-around and no backtracking."""
    try:
        groups = pl.Series([""]).str.extract(pattern, 1).len() and re.compile(pattern).groups
    except (pl.exceptions.ComputeError, re.error):
        raise ValueError(f"{pattern!r} is not a regular expression") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} needs exactly one group in parentheses: the value")
    return pattern


def _columns(columns: Any) -> Any:
    """`Name: variable` is short for `Name: {variable: variable}`."""
    if not isinstance(columns, dict):
        return columns
    return {str(k): {"variable": v} if isinstance(v, str) else v for k, v in columns.items()}


class LongForm(BaseModel):
    """A table of one row per test: one column names the test, another holds its result.

    The results of one record (same patient, same key) become one row of the entity.
    """

    model_config = ConfigDict(extra="forbid")

    test: str
    """The column that names the test."""
    value: str
    """The column that holds the result."""
    tests: dict[str, Column]
    """Name of the test, `*` and `?` as in file patterns -> how its result is read."""
    ignore: list[str] = []
    """Patterns of tests that are left out on purpose. A test that is neither here nor in `tests` refuses its row."""

    _short_form = field_validator("tests", mode="before")(_columns)

    def column_of(self, test: str) -> Column | None:
        """How the result of a test is read; None for one that is left out on purpose. KeyError for an unknown one."""
        name = normal(test)
        for pattern, column in self.tests.items():
            if fnmatch.fnmatchcase(name, normal(pattern)):
                return column
        if any(fnmatch.fnmatchcase(name, normal(pattern)) for pattern in self.ignore):
            return None
        raise KeyError(name)


class Table(BaseModel):
    """Where an entity, or a part of it, stands in a site's delivery."""

    model_config = ConfigDict(extra="forbid")

    files: list[str] = []
    """Patterns (`*visit*`) of file names without their ending; case does not matter. A file that matches none is still
    known by its column names."""
    sheets: list[str] = []
    """Patterns of sheet names of a workbook."""
    columns: dict[str, Column] = {}
    """The site's column name -> how it is read. `Name: variable` is short for `Name: {variable: variable}`."""
    constants: dict[str, str] = {}
    """Variable -> the value that every row of this site has."""
    from_name: dict[str, str] = {}
    """Variable -> a regular expression whose first group, in the file's name without ending, is its value."""
    where: dict[str, list[str]] = {}
    """Column -> the values that make a row one of this table; the others are left out of it. Case does not matter; `*`
    and `?` are as in file patterns, so that `?*` is any value."""
    long: LongForm | None = None
    """How the results are found in a table of one row per test."""
    dated: str | None = None
    """The column whose date says which of several rows of a record is the latest, for `combine: latest`."""
    beside: bool = False
    """The file holds this entity beside another one: it is read for both. Only for files and sheets known by name."""
    fold: bool = False
    """A record is told in several rows, sheets or files: rows of the same patient and key become one. Rows without a
    full key stay apart."""

    _short_form = field_validator("columns", mode="before")(_columns)

    @field_validator("where", mode="before")
    @classmethod
    def _where_texts(cls, where: Any) -> Any:
        if not isinstance(where, dict):
            return where
        return {str(k): [_text(value) for value in v] if isinstance(v, list) else v for k, v in where.items()}

    @field_validator("from_name")
    @classmethod
    def _name_patterns(cls, patterns: dict[str, str]) -> dict[str, str]:
        return {variable: _one_group(pattern) for variable, pattern in patterns.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        if self.beside and not (self.files or self.sheets):
            raise ValueError("a table with `beside` needs patterns of files or sheets")
        if self.dated is None and any(column.combine == "latest" for _, column in self.all_columns):
            raise ValueError("`combine: latest` needs the column that `dated` names")
        return self

    @property
    def is_folded(self) -> bool:
        return self.fold or self.long is not None

    @property
    def all_columns(self) -> list[tuple[str, Column]]:
        """(column or test, how it is read): everything that gives a variable."""
        return [*self.columns.items(), *(self.long.tests.items() if self.long else ())]


class Profile(BaseModel):
    """How one site's tables are read."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    encoding: str | None = None
    """Text encoding of CSV files; found out when absent."""
    separator: str | None = None
    """Column separator of CSV files; found out when absent."""
    date_formats: list[str] = ["%Y-%m-%d"]
    time_zone: str = "UTC"
    """Where the days of `epoch_ms` and `epoch_s` begin and end, such as `Europe/London`."""
    decimal_comma: bool = False
    missing: list[str] = ["NA", "N/A", "#N/A", "null", "none", "?", "."]
    """Words for "missing", beside the empty cell. Case does not matter."""
    true_values: list[str] = ["1", "true", "yes", "y"]
    false_values: list[str] = ["0", "false", "no", "n"]
    own_names: bool = True
    """Whether columns with the dictionary's own names are understood without being listed."""
    by_name: bool = False
    """Whether files and sheets are known by their names only, and never by their columns."""
    entities: dict[str, list[Table]]
    """Entity -> where it stands: one table, or a list of them when its parts stand in several places."""

    _formats = field_validator("date_formats")(_date_formats)

    @field_validator("entities", mode="before")
    @classmethod
    def _lists(cls, entities: Any) -> Any:
        if not isinstance(entities, dict):
            return entities
        return {name: tables if isinstance(tables, list) else [tables] for name, tables in entities.items()}

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str | None) -> str | None:
        if value is not None and value not in ENCODINGS:
            raise ValueError(f"encoding {value!r} is none of {', '.join(ENCODINGS)}")
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"time zone {value!r} is not known; write it as Europe/London")
        return value

    @field_validator("separator")
    @classmethod
    def _separator(cls, value: str | None) -> str | None:
        if value is not None and value not in SEPARATORS:
            raise ValueError(f"separator {value!r} is none of comma, semicolon, tab, |")
        return value

    @field_validator("true_values", "false_values", "missing", mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        return [_text(value) for value in values] if isinstance(values, list) else values

    @model_validator(mode="after")
    def _against_dictionary(self) -> Profile:
        dictionary = load_dictionary()
        for name, tables in self.entities.items():
            if name not in dictionary.entities:
                raise ValueError(f"entity {name!r} is none of {', '.join(dictionary.entities)}")
            for table in tables:
                _check_table(dictionary.entities[name], table)
        return self

    def columns_of(self, entity: str, table: Table) -> dict[str, Column]:
        """Normalised source column name -> how it is read, the dictionary's own names included."""
        found = {}
        if self.own_names:
            for variable in load_dictionary().entities[entity].variables:
                found[normal(variable.name)] = Column(variable=variable.name)
        found |= {normal(source): column for source, column in table.columns.items()}
        return found


def _check_table(entity: Entity, table: Table) -> None:
    """Raise ValueError where a table of a profile does not fit the dictionary."""
    variables = {variable.name: variable for variable in entity.variables}
    seen: set[str] = set()
    for source in table.columns:
        if normal(source) in seen:
            raise ValueError(f"{entity.name}: column {source!r} is listed twice")
        seen.add(normal(source))
    for source, column in table.all_columns:
        if column.variable not in variables:
            raise ValueError(f"{entity.name}: column {source!r}: the dictionary has no variable {column.variable!r}")
        variable = variables[column.variable]
        for code in column.values.values():
            if variable.codes is not None and code is not None and code not in variable.codes:
                known = ", ".join(variable.codes)
                raise ValueError(f"{entity.name}: column {source!r}: {code!r} is no code of {variable.name} ({known})")
        if column.combine in ("mean", "any") and variable.type != COMBINED_TYPES[column.combine]:
            raise ValueError(f"{entity.name}: column {source!r}: {variable.name} has no {column.combine!r}")
    for name in table.constants:
        if name not in variables or variables[name].is_identifier:
            raise ValueError(f"{entity.name}: constant {name!r} is no variable a constant can stand for")
    for name in table.from_name:
        if name not in variables:
            raise ValueError(f"{entity.name}: from_name: the dictionary has no variable {name!r}")


def load_profile(name_or_path: str, home: Home | None = None) -> Profile:
    """Read a shipped profile by its name, or a file of the home by its path.

    Raises
    ------
    HomeError
        There is no such profile, or it does not hold what a profile needs; the text names the field.
    """
    shipped = FOLDER / f"{name_or_path}.yaml"
    if re.fullmatch(r"[A-Za-z0-9_-]+", name_or_path) and shipped.is_file():
        path = shipped
    elif home is not None and (home.root / name_or_path).is_file():
        path = home.root / name_or_path
    else:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise HomeError(
            f"There is no source profile {name_or_path!r}; use one of {known}, or the path of a file inside the home"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise HomeError(f"Source profile {path.name}{line} is not valid YAML; correct it and try again") from error
    try:
        return Profile.model_validate(raw or {})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise HomeError(f"Source profile {path.name}: {field}: {first['msg']}") from error
