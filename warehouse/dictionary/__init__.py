"""The data dictionary: the single source of truth about registry variables.

Here: the format of `*.yaml` beside this file, its loader, and the rules it declares. Not here: how a site names things
(`ingestion/profiles/`), nor what a rule finds (`qa.variables`). From these files come the lake's schemas, the Great
Expectations suite, the dbt contracts, the tier columns and the catalogue page.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from warehouse.dictionary.rules import Rule, made_rules, range_text
from warehouse.errors import DictionaryError

__all__ = ["FOLDER", "TIERS", "Dictionary", "Entity", "Rule", "Variable", "load_dictionary", "range_text"]

FOLDER = Path(__file__).parent
OUTCOME_RULES = "reference/outcome_rules.yaml"

PolarsType = pl.DataType | type[pl.DataType]
TYPES: dict[str, PolarsType] = {
    "string": pl.String,
    "code": pl.String,
    "integer": pl.Int64,
    "decimal": pl.Float64,
    "boolean": pl.Boolean,
    "date": pl.Date,
}
TIERS = ("open", "registered", "controlled", "steward")
OmopClass = Literal[
    "Clinical Finding", "Clinical Observation", "Context-dependent", "Disorder", "Gender", "Ingredient", "Lab Test",
    "Observable Entity", "Procedure", "Qualifier Value", "Race", "Social Context", "Staging / Scales", "Survey", "Unit",
    "Visit",
]  # fmt: skip
"""Classes of the OHDSI vocabularies that variables here are placed in."""
DisclosureClass = Literal["identifier", "quasi", "sensitive", "plain"]
MsdaCategory = Literal[
    "demographics", "comorbidities", "disease history", "disease status", "relapses", "MRI", "treatment"
]
"""Categories of the MSDA Core Dataset that its public abstract names (doi:10.1177/13524585231216004). Its list of items
could not be read, so variables are placed in categories and not equated with items."""


class Variable(BaseModel):
    """One variable of the network."""

    model_config = ConfigDict(extra="forbid")

    name: str
    type: Literal["string", "code", "integer", "decimal", "boolean", "date"]
    definition: str
    source: str
    """Where the definition comes from: a paper, a standard, or `network` for our own."""
    verified: bool = True
    """False where part of the definition was not read in its source; `note` says which part. A network that knows
    better changes it there."""
    note: str | None = None
    owner: str = "network data manager"
    since: str = "1.0"
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    excluded: list[float] = []
    """Values inside the range that do not exist, such as EDSS 0.5."""
    codes: dict[str, str] | None = None
    """Code -> meaning. A value that is none of these does not enter the lake."""
    pattern: str | None = None
    required: bool = False
    tier: Literal["open", "registered", "controlled", "steward", "none"] = "none"
    """The least trusted tier that may see it at row level. Undeclared means no tier."""
    generalise: Literal["year", "age_band"] | None = None
    """How the `registered` tier coarsens it."""
    disclosure: DisclosureClass
    rule: str | None = None
    """Identity of the rule that its range, step and excluded values make."""
    severity: Literal["error", "warning"] = "error"
    msda: MsdaCategory | None = None
    sdtm: str | None = Field(default=None, pattern=r"^[A-Z]{2}\.[A-Z0-9]{2,8}$")
    """CDISC SDTM domain and variable that carries it, such as `DM.SEX`. Findings share one: QS.QSSTRESN holds every
    score, told apart by QSTEST."""
    omop: OmopClass | None = None
    """Class of the OMOP concepts that stand for it (`concept_class_id` of the OHDSI vocabularies)."""

    @property
    def polars_type(self) -> PolarsType:
        return TYPES[self.type]

    @property
    def is_identifier(self) -> bool:
        return self.disclosure == "identifier"

    @model_validator(mode="after")
    def _consistent(self) -> Variable:
        if self.type == "code" and not self.codes:
            raise ValueError(f"{self.name} is a code without codes")
        if self.rule is None and self._has_range:
            raise ValueError(f"{self.name} has a range but no rule id")
        if self.is_identifier and self.tier != "none":
            raise ValueError(f"{self.name} is an identifier and may be in no tier")
        if not self.verified and not self.note:
            raise ValueError(f"{self.name} is not verified and has no note that says what of it")
        return self

    @property
    def _has_range(self) -> bool:
        return any(v is not None for v in (self.minimum, self.maximum, self.step)) or bool(self.excluded)


class Entity(BaseModel):
    """A registry table: one row per what `description` says."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    key: list[str]
    """Variables that identify a row within a subject; later deliveries win over earlier ones by them."""
    event_date: str | None = None
    """Variable with the day of the event: `fct_<name>` has a row per event, ordered by it, with the age at it. Without
    one the table is written by hand."""
    number: str | None = None
    """Column of the fact table that counts a subject's events in that order; `<name>_number` when it is not said."""
    variables: list[Variable]
    rules: list[Rule] = []

    @property
    def number_column(self) -> str:
        return self.number or f"{self.name}_number"

    @property
    def stored_variables(self) -> list[Variable]:
        """What enters the lake: everything but identifiers, which end at the pseudonym table."""
        return [variable for variable in self.variables if not variable.is_identifier]

    def variable(self, name: str) -> Variable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise DictionaryError(f"The dictionary has no variable {name!r} in {self.name!r}")

    @property
    def all_rules(self) -> list[Rule]:
        """Rules that follow from the declaration, and those that are written down."""
        return made_rules(self) + self.rules


class Dictionary(BaseModel):
    """All entities, by name."""

    version: str
    entities: dict[str, Entity]
    outcome_rules: dict[str, str] = {}
    """Numbers of the network's rule catalogue that judge no row -> where they are used instead."""

    @property
    def rules(self) -> list[tuple[str, Rule]]:
        """(entity name, rule) for every rule there is."""
        return [(e.name, rule) for e in self.entities.values() for rule in e.all_rules]


def dmts() -> pl.DataFrame:
    """Class and first approval of each treatment that `treatment.dmt` knows.

    Returns
    -------
    `code`, `name`, `dmt_class`, `first_approval_date` (for MS, by FDA or EMA; 1 January where only the year is known,
    null where there is none), `source`, `is_verified` (the approval was read in that source).
    """
    raw = pl.read_csv(FOLDER / "reference" / "dmt.csv", schema_overrides={"date": pl.Date})
    return raw.rename({"date": "first_approval_date", "verified": "is_verified"})


@lru_cache(maxsize=4)
def load_dictionary(folder: Path = FOLDER) -> Dictionary:
    """Read every `*.yaml` of the dictionary, one entity a file, in file order.

    Raises
    ------
    DictionaryError
        A file does not hold an entity, two variables or two rules share a name, or a key or a rule names a column that
        does not exist.
    """
    entities: dict[str, Entity] = {}
    version = (folder / "VERSION").read_text(encoding="utf-8").strip()
    for path in sorted(folder.glob("*.yaml")):
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            entity = Entity.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise DictionaryError(f"{path.name}: {field}: {first['msg']}") from error
        entities[entity.name] = entity
    outcomes = yaml.safe_load((folder / OUTCOME_RULES).read_text(encoding="utf-8"))
    dictionary = Dictionary(version=version, entities=entities, outcome_rules=outcomes)
    _check(dictionary)
    return dictionary


def _check(dictionary: Dictionary) -> None:
    _check_names(dictionary)
    seen: set[str] = set()
    for name, rule in dictionary.rules:
        if rule.id in seen:
            raise DictionaryError(f"Two rules are called {rule.id}")
        seen.add(rule.id)
        entity = dictionary.entities[name]
        columns = {v.name for v in entity.stored_variables} | {"subject_key"}
        if missing := set(rule.names(entity)) - columns:
            raise DictionaryError(f"Rule {rule.id} names columns that {name} does not have: {sorted(missing)}")
        if strange := {*rule.tables, *([rule.reference] if rule.reference else [])} - set(dictionary.entities):
            raise DictionaryError(f"Rule {rule.id} names tables that do not exist: {sorted(strange)}")


def _check_names(dictionary: Dictionary) -> None:
    """A name means one thing: identifiers aside, no two tables have a variable of one name."""
    where: dict[str, str] = {}
    for entity in dictionary.entities.values():
        for variable in entity.stored_variables:
            if variable.name in where:
                raise DictionaryError(f"{variable.name} is a variable of {where[variable.name]} and of {entity.name}")
            where[variable.name] = entity.name
        for name in (entity.event_date, *entity.key):
            if name is not None and where.get(name) != entity.name:
                raise DictionaryError(f"{entity.name} is told by {name}, which it does not have")
