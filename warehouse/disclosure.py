"""What a reader of the published counts could work out, and which counts must be withheld so that they cannot.

Here: the attacker (bounds on withheld counts by integer programming over everything published), complementary
suppression with that attacker in the loop, the comparison of consecutive releases, the gate's check of finished files.
Not here: counting, redaction and rounding (`dbt_project/`), the thresholds (`warehouse/policy/disclosure.yaml`).

The attacker is the one of the field: least and largest value of a suppressed cell that fit the published table, as
`attack` of R's sdcTable computes it; see Hundepool et al., Statistical Disclosure Control, 2012,
doi:10.1002/9781118348239. Anyone may attack, and each site, which can subtract its own counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from warehouse import lake
from warehouse.errors import DictionaryError, ReleaseError

Cell = tuple[str, str]
"""(stratum_kind, stratum)."""
Counts = dict[Cell, int]

ALL: Cell = ("all", "all")
SOLVE_SECONDS = 20
INFEASIBLE = 2
"""`status` of scipy's milp."""
TOTAL = "total"
UNKNOWN = "unknown"
RULE_FILE = Path(__file__).parent / "policy" / "disclosure.yaml"
COHORT = "mart_cohort_catalogue"
IMAGING = "mart_imaging_qa"
IMAGING_AT_SITE = "network_imaging_qa"

PUBLISHED: dict[str, dict[str, Any]] = {
    "published_rule": {"version": pl.String, "small_count_maximum": pl.Int64, "rounding": pl.Int64},
    "published_subject": {"subject_key": pl.String, "strata_digest": pl.String},
    "published_basis": {
        "site_code": pl.String,
        "stratum_kind": pl.String,
        "stratum": pl.String,
        "subject_count": pl.Int64,
    },
    "published_cohort": {"stratum_kind": pl.String, "stratum": pl.String, "subject_count": pl.Int64},
    "published_imaging": {
        "contrast": pl.String,
        "measure": pl.String,
        "unit": pl.String,
        "subject_count": pl.Int64,
        "series_count": pl.Int64,
        "median_value": pl.Float64,
    },
}
"""Tables that dbt reads of the current release -> their columns."""


class Overlapping(BaseModel):
    """A kind whose strata may share subjects."""

    model_config = ConfigDict(extra="forbid")

    within: tuple[str, str]
    covers: bool


class Structure(BaseModel):
    """How the published counts hang together, as `disclosure.yaml` declares it."""

    model_config = ConfigDict(extra="forbid")

    protection_width: int
    partitions: list[str]
    crossings: dict[str, tuple[str, str]]
    overlapping: dict[str, Overlapping]
    missing: dict[str, str]


@lru_cache(maxsize=1)
def load_structure() -> Structure:
    """How the published counts hang together.

    Raises
    ------
    DictionaryError
        The file cannot be read, or its two-way tables go round in a circle: what a circle of tables tells together is
        more than its rows and columns tell, and the attacker here would not see it.
    """
    try:
        structure = Structure.model_validate(yaml.safe_load(RULE_FILE.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise DictionaryError(f"{RULE_FILE.name}: {error.errors()[0]['msg']}") from error
    if circle := _circle(structure.crossings.values()):
        raise DictionaryError(
            f"{RULE_FILE.name}: the two-way table of {' and '.join(circle)} closes a circle of tables"
        )
    return structure


def _circle(edges: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first pair that joins what is joined already."""
    groups: list[set[str]] = []
    for one, other in edges:
        joined = [group for group in groups if one in group or other in group]
        if any({one, other} <= group for group in joined):
            return one, other
        groups = [group for group in groups if group not in joined] + [{one, other}.union(*joined)]
    return None


@dataclass(frozen=True)
class Rule:
    """Largest count that is redacted, base of rounding, least number of values a withheld count must keep."""

    small_count_maximum: int
    rounding: int
    protection_width: int


@dataclass(frozen=True)
class Published:
    """A catalogue as it is read from outside, and the counts behind it.

    `shown` holds None for a count that is withheld; `by_site` is every site's own count of every cell.
    """

    shown: dict[Cell, int | None]
    by_site: dict[str, Counts]

    def count(self, cell: Cell) -> int:
        return sum(counts.get(cell, 0) for counts in self.by_site.values())

    def others(self, cell: Cell, site: str | None) -> int:
        """Subjects of a cell whom the attacker does not know: all, or those of the other sites."""
        return self.count(cell) - (self.by_site[site].get(cell, 0) if site else 0)


@dataclass(frozen=True)
class Disclosed:
    """A small count that an attacker can work out too closely. The bounds are kept out of messages and files."""

    cell: Cell
    site: str | None
    is_change: bool

    def __str__(self) -> str:
        kind, stratum = self.cell
        what = "the change since the current release" if self.is_change else "the count"
        who = f"site {self.site}" if self.site else "anyone"
        return f"{what} of {kind} = {stratum} can be worked out by {who}"


def rounded(count: int, base: int) -> int:
    """A count to the nearest multiple, halves up, as DuckDB's `round` does it for positive numbers."""
    return (2 * count + base) // (2 * base) * base


def is_large(count: int, own: int, rule: Rule) -> bool:
    """Whether a count may be shown before anything else is looked at; `own` is the largest count of one site."""
    maximum = rule.small_count_maximum
    return count > maximum and (count == own or count - own > maximum)


@dataclass(frozen=True)
class Relation:
    """`low <= sum(weight * count) <= high`, known to everybody."""

    weights: dict[Cell, int]
    low: float
    high: float


def relations(cells: Iterable[Cell], structure: Structure) -> list[Relation]:
    """What a reader knows of the counts of these cells without any of them being published."""
    strata: dict[str, list[str]] = defaultdict(list)
    for kind, stratum in sorted(cells):
        strata[kind].append(stratum)
    if ALL[1] not in strata[ALL[0]]:
        return []
    known = [
        Relation({(kind, s): 1 for s in strata[kind]} | {ALL: -1}, 0, 0)
        for kind in structure.partitions
        if strata[kind]
    ]
    for kind, edges in structure.crossings.items():
        known += _lines(kind, edges, strata[kind])
    for kind, spec in structure.overlapping.items():
        if spec.within[1] in strata[spec.within[0]]:
            known += [Relation({(kind, s): 1, spec.within: -1}, -math.inf, 0) for s in strata[kind]]
            if spec.covers and strata[kind]:
                known.append(Relation({(kind, s): 1 for s in strata[kind]} | {spec.within: -1}, 0, math.inf))
    for variable, kind in structure.missing.items():
        if variable in strata["variable"] and strata[kind]:
            lacking = {(kind, UNKNOWN): 1} if UNKNOWN in strata[kind] else {}
            known.append(Relation({("variable", variable): 1, ALL: -1} | lacking, 0, 0))
    return known


def _lines(kind: str, edges: tuple[str, str], strata: list[str]) -> Iterator[Relation]:
    """Rows and columns of a two-way table."""
    for place, edge_kind in enumerate(edges):
        lines: dict[str, list[str]] = defaultdict(list)
        for stratum in strata:
            lines[stratum.split(" and ")[place]].append(stratum)
        for edge, line in lines.items():
            yield Relation({(kind, s): 1 for s in line} | {(edge_kind, edge): -1}, 0, 0)


class Attacker:
    """Anyone, or one site, before a published catalogue.

    It is given more than it has: for every withheld count it is told whether it is small. What stays hidden from it
    stays hidden from a reader who only guesses.
    """

    def __init__(self, published: Published, rule: Rule, structure: Structure, site: str | None = None) -> None:
        self.published = published
        self.rule = rule
        self.site = site
        self.cells = sorted(published.shown)
        self._two_way = set(structure.crossings)
        self._place = {cell: place for place, cell in enumerate(self.cells)}
        self._others = {cell: published.others(cell, site) for cell in self.cells}
        self._own = {cell: published.count(cell) - self._others[cell] for cell in self.cells}
        self._relations = relations(self.cells, structure)
        self._constraint = self._matrix()
        self._possible = np.array([[self._others[cell] for cell in self.cells]], dtype=np.int64)
        """Tables that fit what is published, one a row: what stands in a column is possible for its cell."""

    def _matrix(self) -> LinearConstraint | None:
        if not self._relations:
            return None
        entries = [
            (row, self._place[cell], weight)
            for row, relation in enumerate(self._relations)
            for cell, weight in relation.weights.items()
        ]
        rows, columns, weights = zip(*entries, strict=True)
        matrix = csr_array((weights, (rows, columns)), shape=(len(self._relations), len(self.cells)))
        return LinearConstraint(matrix, [r.low for r in self._relations], [r.high for r in self._relations])

    def bounds_of(self, cell: Cell) -> tuple[int, int]:
        """What the attacker knows of the subjects whom it does not know, from this cell alone."""
        others, own = self._others[cell], self._own[cell]
        maximum, base = self.rule.small_count_maximum, self.rule.rounding
        shown = self.published.shown[cell]
        if shown is not None:
            low = max(maximum + 1, shown - base // 2)
            high = shown + (base - 1) // 2
            return max(0, low - own), high - own
        if others <= maximum:
            is_listed_for_somebody = cell[0] not in self._two_way and not own and others > 0
            return (1 if is_listed_for_somebody else 0), maximum
        # Any finite end serves; a nearer one only tells the attacker more.
        return (0 if own else maximum + 1), others + 10 * (maximum + base)

    def small_cells(self) -> list[Cell]:
        """Cells in which it must not learn how many subjects there are beside those it knows."""
        return [cell for cell in self.cells if _small(self._others[cell], self.rule)]

    def span(self, cell: Cell, enough: int) -> int:
        """How many values from the least to the largest possible one; the search ends once there are `enough`."""
        for sign in (1, -1):
            if self._reached(cell) >= enough:
                break
            self._solve(cell, sign)
        return self._reached(cell)

    def _reached(self, cell: Cell) -> int:
        values = self._possible[:, self._place[cell]]
        return int(values.max() - values.min()) + 1

    def _solve(self, cell: Cell, sign: int) -> None:
        costs = np.zeros(len(self.cells))
        costs[self._place[cell]] = sign
        low, high = zip(*(self.bounds_of(c) for c in self.cells), strict=True)
        found = milp(
            costs,
            integrality=np.ones(len(self.cells)),
            bounds=Bounds(np.array(low, dtype=float), np.array(high, dtype=float)),
            constraints=self._constraint,
            options={"time_limit": SOLVE_SECONDS},
        )
        if found.status == INFEASIBLE:
            raise ReleaseError(f"The counts of {cell[0]} contradict the relations of {RULE_FILE.name}")
        if found.x is None:  # out of time: the cell counts as known, and more is withheld
            return
        self._possible = np.vstack([self._possible, np.rint(found.x).astype(np.int64)])

    def forget_impossible(self, cell: Cell) -> None:
        """Drop the tables that no longer fit, after the count of `cell` has been shown."""
        low, high = self.bounds_of(cell)
        values = self._possible[:, self._place[cell]]
        self._possible = self._possible[(values >= low) & (values <= high)]

    def closest(self, cell: Cell) -> Cell | None:
        """The published count to withhold next for a cell: the smallest of those tied to it by the fewest relations."""
        seen, ring = {cell}, {cell}
        while ring:
            ring = {c for r in self._relations if ring & set(r.weights) for c in r.weights} - seen
            seen |= ring
            if shown := [c for c in ring if self.published.shown[c] is not None]:
                return min(shown, key=lambda c: (c == ALL, self._others[c] + self._own[c], c))
        return None


def _small(value: int, rule: Rule) -> bool:
    return 1 <= abs(value) <= rule.small_count_maximum


def _attackers(published: Published, rule: Rule, structure: Structure) -> list[Attacker]:
    return [Attacker(published, rule, structure, site) for site in (None, *sorted(published.by_site))]


def disclosed(now: Published, before: Published | None, rule: Rule, structure: Structure) -> list[Disclosed]:
    """Small counts of a catalogue, and small changes since the one before it, that can be worked out too closely.

    Too closely is to fewer than `protection_width` values, by anyone or by a site.
    """
    earlier = _earlier(before, rule, structure)
    found = []
    for attacker in _attackers(now, rule, structure):
        found += [Disclosed(cell, attacker.site, is_change=False) for cell in _known(attacker)]
        found += [Disclosed(cell, attacker.site, is_change=True) for cell in _known_changes(attacker, earlier)]
    return found


def _earlier(before: Published | None, rule: Rule, structure: Structure) -> dict[str | None, Attacker]:
    return {a.site: a for a in _attackers(before, rule, structure)} if before else {}


def _known(attacker: Attacker) -> Iterator[Cell]:
    width = attacker.rule.protection_width
    return (cell for cell in attacker.small_cells() if attacker.span(cell, width) < width)


def _known_changes(attacker: Attacker, earlier: Mapping[str | None, Attacker]) -> Iterator[Cell]:
    if before := earlier.get(attacker.site):
        for cell in attacker.cells:
            if not _is_change_open(attacker, before, cell):
                yield cell


def _is_change_open(now: Attacker, before: Attacker, cell: Cell) -> bool:
    """Nothing ties the two releases' tables to each other, so the widths add up."""
    if cell not in before.published.shown:
        return True
    change = now.published.others(cell, now.site) - before.published.others(cell, before.site)
    width = now.rule.protection_width
    if not _small(change, now.rule):
        return True
    span = now.span(cell, width)
    return span >= width or span + before.span(cell, width) - 1 >= width


def withhold(by_site: dict[str, Counts], rule: Rule, structure: Structure, before: Published | None) -> set[Cell]:
    """Cells to withhold, the small ones included: complementary suppression with the attacker in the loop.

    First the count that is tied closest to a small one in danger is withheld, until none is in danger. Each round
    withholds one more, so it ends, and what is once hidden stays so, as withholding more only widens what is possible.
    Then every count withheld for another's sake is shown again if that endangers none.
    """
    cells = sorted({cell for counts in by_site.values() for cell in counts})
    values: dict[Cell, int | None] = {}
    for cell in cells:
        own = [counts.get(cell, 0) for counts in by_site.values()]
        values[cell] = rounded(sum(own), rule.rounding) if is_large(sum(own), max(own), rule) else None
    now = Published(dict(values), by_site)
    attackers, earlier = _attackers(now, rule, structure), _earlier(before, rule, structure)
    for attacker in attackers:
        _withhold_from(attacker, earlier)
    for cell in sorted(cells, key=lambda c: (c != ALL, -now.count(c), c)):
        if now.shown[cell] is None and values[cell] is not None:
            now.shown[cell] = values[cell]
            if not all(_survives(attacker, earlier, cell) for attacker in attackers):
                now.shown[cell] = None
    return {cell for cell, value in now.shown.items() if value is None}


def _withhold_from(attacker: Attacker, earlier: Mapping[str | None, Attacker]) -> None:
    shown = attacker.published.shown
    while cell := next(_known(attacker), None):
        chosen = attacker.closest(cell)
        if chosen is None:
            return
        shown[chosen] = None
    while cell := next(_known_changes(attacker, earlier), None):
        chosen = cell if shown[cell] is not None else attacker.closest(cell)
        if chosen is None:
            return
        shown[chosen] = None


def _survives(attacker: Attacker, earlier: Mapping[str | None, Attacker], cell: Cell) -> bool:
    """Whether nothing is in danger now that `cell` is shown."""
    attacker.forget_impossible(cell)
    return next(_known(attacker), None) is None and next(_known_changes(attacker, earlier), None) is None


def _by_site(table: pl.DataFrame) -> dict[str, Counts]:
    sites: dict[str, Counts] = defaultdict(dict)
    for site, kind, stratum, count in table.select("site_code", "stratum_kind", "stratum", "subject_count").iter_rows():
        sites[site][(kind, stratum)] = int(count)
    return dict(sites)


def _published(cohort: pl.DataFrame, basis: pl.DataFrame) -> Published:
    shown = {
        (kind, stratum): count
        for kind, stratum, count in cohort.select("stratum_kind", "stratum", "subject_count").iter_rows()
        if stratum != TOTAL
    }
    return Published(shown, _by_site(basis))


def withheld_table(
    *,
    now: pl.DataFrame,
    published: pl.DataFrame,
    basis: pl.DataFrame,
    small_count_maximum: int,
    rounding: int,
) -> pl.DataFrame:
    """Every cell, and whether it is withheld; for dbt.

    Parameters
    ----------
    now
        Counts per site and cell.
    published, basis
        The catalogue of the current release and the counts behind it; both empty where there is none.
    """
    structure = load_structure()
    rule = Rule(small_count_maximum, rounding, structure.protection_width)
    by_site = _by_site(now)
    before = _published(published, basis) if basis.height else None
    withheld = withhold(by_site, rule, structure, before)
    cells = sorted({cell for counts in by_site.values() for cell in counts})
    rows = [(kind, stratum, (kind, stratum) in withheld) for kind, stratum in cells]
    schema = {"stratum_kind": pl.String, "stratum": pl.String, "is_withheld": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _rows(db: duckdb.DuckDBPyConnection, table: str, schema: Mapping[str, Any]) -> pl.DataFrame:
    content = db.execute(f'select {", ".join(schema)} from "{table}"').fetchall()
    return pl.DataFrame(content, schema=dict(schema), orient="row")


def _holds(db: duckdb.DuckDBPyConnection, table: str) -> bool:
    return bool(db.execute("select 1 from duckdb_tables() where table_name = ?", [table]).fetchall())


def read_published(release: Path) -> dict[str, pl.DataFrame] | None:
    """What a release shows and the counts behind it; None where it was made before the counts were kept."""
    tables: dict[str, pl.DataFrame] = {}
    with duckdb.connect(str(release / "steward.duckdb"), read_only=True) as db:
        if not _holds(db, "mart_cohort_basis"):
            return None
        tables["published_subject"] = _rows(db, "mart_cohort_basis_subject", PUBLISHED["published_subject"])
        tables["published_basis"] = _rows(db, "mart_cohort_basis", PUBLISHED["published_basis"])
    with duckdb.connect(str(release / "open.duckdb"), read_only=True) as db:
        tables["published_cohort"] = _rows(db, COHORT, PUBLISHED["published_cohort"])
        tables["published_imaging"] = _rows(db, IMAGING, PUBLISHED["published_imaging"])
    return tables


def write_published(folder: Path, release: Path | None, manifest: Mapping[str, Any] | None) -> None:
    """Write what the current release shows as Parquet, for dbt to read; empty tables where there is none."""
    tables = {name: pl.DataFrame(schema=schema) for name, schema in PUBLISHED.items()}
    found = read_published(release) if release else None
    if found and manifest:
        rule = {name: manifest[name] for name in PUBLISHED["published_rule"]}
        tables |= found | {"published_rule": pl.DataFrame([rule], schema=PUBLISHED["published_rule"])}
    for name, table in tables.items():
        lake.write_parquet(folder / f"{name}.parquet", table)


def check_release(
    files: Mapping[str, Path], current: Path | None, *, small_count_maximum: int, rounding: int
) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with a finished build's aggregates, cell by cell, and what the manifest says of them.

    Parameters
    ----------
    files
        File of each tier and site by its name in the manifest.
    current
        Folder of the release that is published now, which any reader can compare with this one.
    """
    structure = load_structure()
    rule = Rule(small_count_maximum, rounding, structure.protection_width)
    tables = read_published(files["steward.duckdb"].parent)
    if tables is None:
        return ["steward.duckdb does not hold the counts behind the catalogue"], {}
    now = _published(tables["published_cohort"], tables["published_basis"])
    problems = _copies_that_differ(files, tables) + _wrongly_shown(now, rule)
    earlier = read_published(current) if current else None
    is_refreshed = earlier is None or not earlier["published_basis"].sort(pl.all()).equals(
        tables["published_basis"].sort(pl.all())
    )
    if not problems:
        before = None
        if earlier and is_refreshed:
            before = _published(earlier["published_cohort"], earlier["published_basis"])
        problems = [f"open.duckdb: {COHORT}: {one}" for one in disclosed(now, before, rule, structure)]
    withheld = sum(value is None for value in now.shown.values())
    facts: dict[str, Any] = {"cells": len(now.shown), "withheld": withheld, "is_counted_anew": is_refreshed}
    if withheld == len(now.shown):
        facts["note"] = "no count can be shown safely"
    return problems, facts


def _copies_that_differ(files: Mapping[str, Path], tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Two ways of withholding one table could be put together, so every file must hold the same one."""
    problems = []
    for name, path in files.items():
        if name == "steward.duckdb":
            continue
        with duckdb.connect(str(path), read_only=True) as db:
            for table, published in ((COHORT, "published_cohort"), (IMAGING_AT_SITE, "published_imaging")):
                if _holds(db, table):
                    copy = _rows(db, table, PUBLISHED[published])
                    if not copy.sort(pl.all()).equals(tables[published].sort(pl.all())):
                        problems.append(f"{name}: {table} differs from that of open.duckdb")
    return problems


def _wrongly_shown(now: Published, rule: Rule) -> list[str]:
    problems = []
    for (kind, stratum), value in now.shown.items():
        own = [counts.get((kind, stratum), 0) for counts in now.by_site.values()] or [0]
        if value is not None and not is_large(sum(own), max(own), rule):
            problems.append(f"open.duckdb: {COHORT}: {kind} = {stratum} is small and is shown")
        elif value is not None and value != rounded(sum(own), rule.rounding):
            problems.append(f"open.duckdb: {COHORT}: {kind} = {stratum} is not rounded to {rule.rounding}")
    return problems
