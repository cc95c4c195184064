"""Redaction, rounding and totals in the build's own SQL, and what an attacker makes of the result."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))  # for the attacker, which is no test

from reconstruction import Puzzle, View, change_of, count_of

from warehouse import disclosure
from warehouse.disclosure import ALL, Cell, Counts, Published, Rule, Structure, load_structure

MACROS = Path(__file__).parents[3] / "dbt_project" / "macros" / "disclosure.sql"
RULE = Rule(small_count_maximum=7, rounding=5, protection_width=5)
STRUCTURE = Structure(
    protection_width=5,
    partitions=["sex", "course"],
    crossings={"sex and course": ("sex", "course")},
    overlapping={},
    missing={},
)
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Row = tuple[str, str, int, int, bool]


def macros(rule: Rule = RULE, returned: Callable[[Any], Any] = str) -> Any:
    """The build's macros, as dbt renders them."""
    values = {"RANVIER_SMALL_COUNT_MAXIMUM": str(rule.small_count_maximum), "RANVIER_ROUNDING": str(rule.rounding)}
    environment = jinja2.Environment()
    environment.globals |= {"env_var": values.__getitem__, "return": returned}
    return environment.from_string(MACROS.read_text(encoding="utf-8")).module


def publish(rows: list[Row], totals: list[str], rule: Rule = RULE) -> dict[Cell, int | None]:
    """What the build's SQL publishes of (kind, stratum, count, largest count of a site, withheld)."""
    with duckdb.connect() as db:
        db.execute(
            "create table fresh (stratum_kind varchar, stratum varchar, subject_count bigint,"
            " largest_site_count bigint, is_withheld boolean)"
        )
        if rows:
            db.executemany("insert into fresh values (?, ?, ?, ?, ?)", rows)
        sql = macros(rule).published_strata("fresh", totals)
        found = db.execute(f"select stratum_kind, stratum, published_subject_count from ({sql})").fetchall()
    return {(kind, stratum): value for kind, stratum, value in found}


def test_the_worked_table_of_opensafely_is_reproduced() -> None:
    counts = {"Asian": 3, "Black": 8, "Mixed": 16, "White": 23}
    population = {"Asian": 18, "Black": 23, "Mixed": 31, "White": 44}
    rows: list[Row] = [("count", name, n, n, False) for name, n in counts.items()]
    rows += [("population", name, n, n, False) for name, n in population.items()]
    shown = publish(rows, ["count", "population"])
    assert [shown["count", name] for name in (*counts, "total")] == [None, 10, 15, 25, 50]
    assert [shown["population", name] for name in (*counts, "total")] == [20, 25, 30, 45, 120]


def test_macros_and_attacker_speak_of_the_same_tables() -> None:
    found: list[Any] = []
    module = macros(returned=found.append)
    module.partitions()
    module.crossings()
    structure = load_structure()
    assert found[0] == structure.partitions
    assert {f"{row} and {column}": (row, column) for row, column in found[1]} == structure.crossings


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for kind in ("one", "two"):
        for place in range(draw(st.integers(1, 6))):
            count = draw(st.one_of(st.integers(0, 20), st.integers(0, 5000)))
            own = draw(st.integers(0, count))
            rows.append((kind, f"s{place}", count, own, draw(st.booleans())))
    return rows


@EXAMPLES
@given(tables(), st.sampled_from([RULE, Rule(10, 10, 5), Rule(7, 3, 5)]))
def test_no_small_count_is_shown_and_totals_are_of_what_is_shown(rows: list[Row], rule: Rule) -> None:
    shown = publish(rows, ["one"], rule)
    assert shown == publish(list(reversed(rows)), ["one"], rule)
    for kind, stratum, count, own, is_withheld in rows:
        value = shown[kind, stratum]
        others = count - own
        is_small = count <= rule.small_count_maximum or 1 <= others <= rule.small_count_maximum
        assert (value is None) == (is_small or is_withheld)
        if value is not None:
            assert value % rule.rounding == 0 and 2 * abs(value - count) <= rule.rounding
            assert value > rule.small_count_maximum - rule.rounding / 2
            assert value == disclosure.rounded(count, rule.rounding)
    shown_of_one = [v for (kind, stratum), v in shown.items() if kind == "one" and stratum != "total" and v]
    assert shown["one", "total"] == (sum(shown_of_one) or None)
    assert ("two", "total") not in shown


def network(dice: random.Random) -> dict[str, Counts]:
    """Sites with subjects by sex and course, some courses rare."""
    courses = ["CIS", "PPMS", "RRMS", "SPMS"][: dice.randint(2, 4)]
    rarity = {course: dice.choice([2, 6, 15, 40]) for course in courses}
    by_site: dict[str, Counts] = {}
    for site in ("AA", "BB", "CC")[: dice.randint(2, 3)]:
        cells = {(sex, course): dice.randint(0, rarity[course]) for sex in "FM" for course in courses}
        by_site[site] = tabulate(cells)
    # As in the build: a stratum that nobody is in is not listed, nor its row or column of the two-way table.
    counted = {cell for counts in by_site.values() for cell, n in counts.items() if n}
    crossed = {
        ("sex and course", f"{sex} and {course}")
        for kind, sex in counted
        for other, course in counted
        if (kind, other) == ("sex", "course")
    }
    present = counted | crossed
    return {site: {cell: counts[cell] for cell in present} for site, counts in by_site.items()}


def tabulate(cells: dict[tuple[str, str], int]) -> Counts:
    counts: Counts = {ALL: sum(cells.values())}
    for (sex, course), n in cells.items():
        counts["sex", sex] = counts.get(("sex", sex), 0) + n
        counts["course", course] = counts.get(("course", course), 0) + n
        counts["sex and course", f"{sex} and {course}"] = n
    return counts


def build(by_site: dict[str, Counts], before: Published | None = None, complementary: bool = True) -> Published:
    """A catalogue as the build makes it: the search for what to withhold, then the SQL."""
    withheld = disclosure.withhold(by_site, RULE, STRUCTURE, before) if complementary else set()
    cells = sorted(next(iter(by_site.values())))
    rows = [
        (kind, stratum, sum(own), max(own), (kind, stratum) in withheld)
        for kind, stratum in cells
        for own in [[counts[kind, stratum] for counts in by_site.values()]]
    ]
    return Published(publish(rows, []), by_site)


def view(made: Published, site: str | None) -> View:
    small = {c for c, v in made.shown.items() if v is None and made.others(c, site) <= RULE.small_count_maximum}
    own = made.by_site[site] if site else {}
    # A reader of `open` is told of a withheld count nothing but that; it is taken to guess right which are small.
    return View(made.shown, own, frozenset(small) if site is None else frozenset())


def recovered(made: Published, before: Published | None = None) -> list[tuple[str | None, Cell, str]]:
    """Small counts and changes that the attacker narrows down to fewer than five values."""
    found: list[tuple[str | None, Cell, str]] = []
    for site in (None, *made.by_site):
        now = Puzzle(view(made, site), RULE.small_count_maximum, RULE.rounding)
        then = Puzzle(view(before, site), RULE.small_count_maximum, RULE.rounding) if before else None
        for cell in now.cells:
            if 1 <= made.others(cell, site) <= RULE.small_count_maximum:
                low, high = count_of(now, cell)
                assert low <= made.others(cell, site) <= high
                if high - low + 1 < RULE.protection_width:
                    found.append((site, cell, "count"))
            if before and then and cell in before.shown:
                change = made.others(cell, site) - before.others(cell, site)
                if 1 <= abs(change) <= RULE.small_count_maximum:
                    low, high = change_of(then, now, cell)
                    assert low <= change <= high
                    if high - low + 1 < RULE.protection_width:
                        found.append((site, cell, "change"))
    return found


def people_move(by_site: dict[str, Counts], dice: random.Random) -> dict[str, Counts]:
    """Eight to twenty subjects join or leave."""
    later = {}
    for site, counts in by_site.items():
        cells = {tuple(stratum.split(" and ")): n for (kind, stratum), n in counts.items() if kind == "sex and course"}
        for _ in range(dice.randint(4, 7)):
            cell = dice.choice(sorted(cells))
            cells[cell] = max(0, cells[cell] + dice.choice([-1, 1, 1]))
        table = tabulate(cells)  # type: ignore[arg-type]
        later[site] = {cell: table.get(cell, 0) for cell in counts}
    return later


@pytest.mark.parametrize(
    ("seed", "networks"),
    [(0, 4), *(pytest.param(seed, 20, marks=pytest.mark.slow) for seed in range(1, 11))],
)
def test_the_attacker_recovers_nothing_from_networks_and_their_next_release(seed: int, networks: int) -> None:
    dice = random.Random(seed)
    for _ in range(networks):
        first = network(dice)
        made = build(first)
        assert recovered(made) == []
        if dice.random() < 0.3:
            later = build(people_move(first, dice), made)
            assert recovered(later, made) == []


def test_without_complementary_suppression_the_attacker_recovers_a_count() -> None:
    """19 subjects are shown as 20 and the 12 women as 10, so at least 6 are men, and a blank of 6 or 7 is no secret."""
    cells = {"AA": (4, 3), "BB": (4, 2), "CC": (4, 2)}
    by_site = {site: tabulate({("F", "RRMS"): women, ("M", "RRMS"): men}) for site, (women, men) in cells.items()}
    assert (None, ("sex", "M"), "count") in recovered(build(by_site, complementary=False))
    assert recovered(build(by_site)) == []


def test_withholding_is_deterministic_and_does_not_depend_on_the_order_of_sites() -> None:
    by_site = network(random.Random(5))
    backwards = dict(reversed(by_site.items()))
    first = disclosure.withhold(by_site, RULE, STRUCTURE, None)
    assert first == disclosure.withhold(backwards, RULE, STRUCTURE, None)


def test_a_network_of_few_subjects_shows_nothing() -> None:
    few = {"AA": {("F", "RRMS"): 3, ("M", "PPMS"): 1}, "BB": {("F", "RRMS"): 0, ("M", "PPMS"): 2}}
    made = build({site: tabulate(cells) for site, cells in few.items()})
    assert set(made.shown.values()) == {None}
    assert disclosure.withhold({}, RULE, STRUCTURE, None) == set()
