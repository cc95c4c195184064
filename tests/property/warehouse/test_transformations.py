"""What the policy does to values holds for any table: k and l are met, nothing new appears, intervals stay."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from sql import macros

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANONYMITY = macros("anonymity")
BANDS = macros("age_band")
TRANSFORM = macros("transformations")
QUASI = ["c", "b", "a"]
SCHEMA = {"subject_key": pl.String, "c": pl.Int64, "b": pl.String, "a": pl.String, "s": pl.String}
PERSON = st.tuples(
    st.one_of(st.none(), st.integers(2018, 2020)),
    st.sampled_from([None, "20-29", "30-39"]),
    st.sampled_from(["F", "M"]),
    st.sampled_from([None, "RRMS", "RRMS", "PPMS"]),
)


def anonymous(people: list[tuple[Any, ...]], k: int, l: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # noqa: E741
    """(what went in, what came out), both in the order of the subjects."""
    person = pl.DataFrame([(f"p{i:04d}", *row) for i, row in enumerate(people)], schema=SCHEMA, orient="row")
    steps = ANONYMITY.anonymity_steps(QUASI, ["s"], k, l)
    with duckdb.connect() as db:
        db.register("person", person)
        db.execute("set threads = 1")
        rows = db.execute(f"with {steps} select * from anonymous order by subject_key").pl()
    return person.to_dicts(), rows.to_dicts()


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in QUASI)


def reached(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Smallest class, and fewest different values in a class that tells any."""
    sizes = Counter(shown(row) for row in rows)
    values: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        if row["s"] is not None:
            values[shown(row)].add(row["s"])
    return min(sizes.values()), min((len(v) for v in values.values()), default=99)


@EXAMPLES
@given(people=st.lists(PERSON, max_size=60), k=st.integers(1, 7), l=st.integers(1, 2))
@example(people=[], k=5, l=2)
@example(people=[(2018, "20-29", "F", "RRMS")] * 12, k=5, l=2)
@example(people=[(2018, "20-29", "F", "RRMS"), (2018, "20-29", "F", "PPMS")] * 6 + [(2019, None, "M", None)], k=5, l=2)
def test_every_class_is_large_and_diverse(people: list[tuple[Any, ...]], k: int, l: int) -> None:  # noqa: E741
    before, after = anonymous(people, k, l)
    assert [r["subject_key"] for r in before] == [r["subject_key"] for r in after]
    kept = [row for row in after if row["is_kept"]]
    # Subjects are left out only where the whole table is smaller than k.
    assert len(kept) == (len(people) if len(people) >= k else 0)
    if kept:
        smallest, fewest = reached(kept)
        assert smallest >= k
        assert l == 1 or fewest >= l


@EXAMPLES
@given(people=st.lists(PERSON, min_size=5, max_size=60), k=st.integers(1, 7), l=st.integers(1, 2))
def test_a_value_stays_or_is_emptied_and_is_counted(people: list[tuple[Any, ...]], k: int, l: int) -> None:  # noqa: E741
    before, after = anonymous(people, k, l)
    for old, new in zip(before, after, strict=True):
        for column in [*QUASI, "s"]:
            assert new[column] in (old[column], None)
            assert new[f"is_{column}_suppressed"] == (old[column] is not None and new[column] is None)
        # Given up in the declared order: nothing is shown that comes before something that was suppressed.
        given_up = [new[f"is_{column}_suppressed"] for column in QUASI]
        last = max((i for i, was in enumerate(given_up) if was), default=-1)
        assert all(new[column] is None for column in QUASI[: last + 1])


def test_what_is_large_and_diverse_already_loses_nothing() -> None:
    people = [(2018, "20-29", "F", "RRMS"), (2018, "20-29", "F", "PPMS")] * 5
    _, after = anonymous(people * 2 + [(2020, "30-39", "M", s) for s in ("RRMS", "PPMS") * 5], 10, 2)
    assert not [row for row in after if row["is_a_suppressed"] or row["is_b_suppressed"] or row["is_c_suppressed"]]


def test_a_small_class_takes_no_more_of_its_neighbour_than_it_must() -> None:
    large = [(2018, "20-29", "F", "RRMS"), (2018, "20-29", "F", "PPMS")] * 5
    other = [(2018, "30-39", "F", "RRMS"), (2018, "30-39", "F", "PPMS")] * 5
    _, after = anonymous([*large, *other, (2019, "20-29", "F", "RRMS")], 5, 2)
    assert {shown(row) for row in after} == {(None, "20-29", "F"), (2018, "30-39", "F")}


DAY = st.dates(date(1950, 1, 1), date(2026, 12, 31))


@EXAMPLES
@given(days=st.lists(DAY, min_size=2, max_size=8), offset=st.integers(1, 365))
def test_shifted_dates_keep_the_days_between_them(days: list[date], offset: int) -> None:
    frame = pl.DataFrame({"day": days}, schema={"day": pl.Date})
    with duckdb.connect() as db:
        db.register("source", frame)
        sql = f"select cast({TRANSFORM.shifted('day', offset)} as date) from source"
        moved = [row[0] for row in db.execute(sql).fetchall()]
    assert [a - moved[0] for a in moved] == [a - days[0] for a in days]
    assert moved[0] == days[0] - timedelta(days=offset)


@EXAMPLES
@given(
    ages=st.lists(st.one_of(st.none(), st.integers(0, 110)), min_size=1),
    bands=st.sampled_from([(20, 10, 70), (21, 5, 71)]),
)
def test_an_age_is_in_its_band_and_only_the_ends_are_open(ages: list[int | None], bands: tuple[int, int, int]) -> None:
    first, width, last = bands
    with duckdb.connect() as db:
        db.register("source", pl.DataFrame({"age": ages}, schema={"age": pl.Int64}))
        names = [r[0] for r in db.execute(f"select {BANDS.banded('age', *bands)} from source").fetchall()]
    for age, name in zip(ages, names, strict=True):
        if age is None:
            assert name is None
        elif age < first:
            assert name == f"under {first}"
        elif age >= last:
            assert name == f"{last} or over"
        else:
            low, high = map(int, name.split("-"))
            assert low <= age <= high
            assert high - low == width - 1


@EXAMPLES
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "x", "y", "z"])), min_size=1),
    most=st.integers(0, 5),
)
def test_rare_codes_become_other_and_missing_ones_stay_missing(rows: list[tuple[int, str | None]], most: int) -> None:
    frame = pl.DataFrame(rows, schema={"subject": pl.Int64, "code": pl.String}, orient="row")
    with duckdb.connect() as db:
        db.register("source", frame)
        sql = f"select subject, code, {TRANSFORM.rare_merged('code', 'subject', most)} from source"
        answered = db.execute(sql).fetchall()
    subjects: dict[str | None, set[int]] = defaultdict(set)
    for subject, code in rows:
        subjects[code].add(subject)
    for _, code, merged in answered:
        assert merged == (code if code is None or len(subjects[code]) > most else "other")


@EXAMPLES
@given(births=st.lists(DAY, min_size=1))
def test_a_birth_anchor_tells_five_years(births: list[date]) -> None:
    with duckdb.connect() as db:
        db.register("source", pl.DataFrame({"birth": births}, schema={"birth": pl.Date}))
        anchors = [r[0] for r in db.execute(f"select {TRANSFORM.birth_anchor('birth', '1')} from source").fetchall()]
        hidden = db.execute(f"select {TRANSFORM.birth_anchor('birth', 'null')} from source").fetchall()
    assert all(anchor == date(birth.year // 5 * 5 + 2, 7, 1) for birth, anchor in zip(births, anchors, strict=True))
    assert {row[0] for row in hidden} == {None}
