"""Source profiles: how one site's tables are read, as data a data manager can change.

Here: the format of `profiles/*.yaml` and its loader. Not here: what a variable means (`warehouse.dictionary`) or the
reading itself (`ingestion.registry`). A profile says per entity which files and sheets hold it and which of the site's
columns is which variable, with the site's codes, date formats, units and words for "missing".
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from warehouse.dictionary import load_dictionary
from warehouse.errors import HomeError
from warehouse.home import Home

FOLDER = Path(__file__).parent / "profiles"
ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250")
SEPARATORS = (",", ";", "\t", "|")
DATE_DIRECTIVES = ("%d", "%m", "%y", "%Y", "%b", "%B")


def normal(name: str) -> str:
    """A column name or code as it is compared: without case, accents composed, blanks and underscores as one space."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()


def spoken_format(form: str) -> str:
    """A date format as a person writes it: `%d/%m/%Y` is DD/MM/YYYY."""
    words = {"%d": "DD", "%m": "MM", "%Y": "YYYY", "%y": "YY", "%b": "month", "%B": "month"}
    return re.sub(r"%.", lambda found: words[found.group()], form)


def _date_formats(formats: list[str] | None) -> list[str] | None:
    for form in formats or []:
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
    """Tried in order; `%Y` or `%m/%Y` alone give the first of the year or month. Default: the profile's."""
    decimal_comma: bool | None = None
    factor: float = Field(default=1.0, gt=0)
    """The site's number times this is the dictionary's unit."""
    missing: list[str] = []
    """Words for "missing" in this column, beside the profile's."""

    _formats = field_validator("date_formats")(_date_formats)

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


class Table(BaseModel):
    """Where one entity stands in a site's delivery."""

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

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, columns: Any) -> Any:
        if not isinstance(columns, dict):
            return columns
        return {str(k): {"variable": v} if isinstance(v, str) else v for k, v in columns.items()}


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
    decimal_comma: bool = False
    missing: list[str] = ["NA", "N/A", "null", "none", "?", "."]
    """Words for "missing", beside the empty cell. Case does not matter."""
    true_values: list[str] = ["1", "true", "yes", "y"]
    false_values: list[str] = ["0", "false", "no", "n"]
    own_names: bool = True
    """Whether columns with the dictionary's own names are understood without being listed."""
    entities: dict[str, Table]

    _formats = field_validator("date_formats")(_date_formats)

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str | None) -> str | None:
        if value is not None and value not in ENCODINGS:
            raise ValueError(f"encoding {value!r} is none of {', '.join(ENCODINGS)}")
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
        for name, table in self.entities.items():
            if name not in dictionary.entities:
                raise ValueError(f"entity {name!r} is none of {', '.join(dictionary.entities)}")
            entity = dictionary.entities[name]
            variables = {variable.name: variable for variable in entity.variables}
            seen: set[str] = set()
            for source, column in table.columns.items():
                if column.variable not in variables:
                    raise ValueError(f"{name}: column {source!r}: the dictionary has no variable {column.variable!r}")
                if normal(source) in seen:
                    raise ValueError(f"{name}: column {source!r} is listed twice")
                seen.add(normal(source))
                codes = variables[column.variable].codes
                for code in column.values.values():
                    if codes is not None and code is not None and code not in codes:
                        raise ValueError(
                            f"{name}: column {source!r}: {code!r} is no code of {column.variable} ({', '.join(codes)})"
                        )
            for variable in table.constants:
                if variable not in variables or variables[variable].is_identifier:
                    raise ValueError(f"{name}: constant {variable!r} is no variable a constant can stand for")
        return self

    def columns_of(self, entity: str) -> dict[str, Column]:
        """Normalised source column name -> how it is read, the dictionary's own names included."""
        table = self.entities[entity]
        found = {}
        if self.own_names:
            for variable in load_dictionary().entities[entity].variables:
                found[normal(variable.name)] = Column(variable=variable.name)
        found |= {normal(source): column for source, column in table.columns.items()}
        return found


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
