"""Tables made from the dictionary's own definitions pass; one value outside them is refused by its rule, in its row."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qa.variables import validate_frames
from tests.unit.qa.frames import SITE, base, frame
from warehouse.dictionary import Variable, load_dictionary

TODAY = date(2026, 1, 15)
ENTITY = load_dictionary().entities["visit"]
RANGED = [v for v in ENTITY.stored_variables if v.rule and v.minimum is not None and v.maximum is not None]


def inside(v: Variable) -> st.SearchStrategy[Any]:
    """Any value that the definition allows, and none."""
    assert v.minimum is not None and v.maximum is not None
    if v.step is not None:
        steps = st.integers(0, round((v.maximum - v.minimum) / v.step))
        values = steps.map(lambda n: v.minimum + n * v.step).filter(lambda x: x not in v.excluded)
    elif v.type == "integer":
        values = st.integers(int(v.minimum), int(v.maximum))
    else:
        values = st.floats(v.minimum, v.maximum)
    return st.none() | values


def outside(v: Variable) -> st.SearchStrategy[Any]:
    """Any value that the definition does not allow."""
    assert v.minimum is not None and v.maximum is not None
    if v.type == "integer":
        return st.integers(-9999, int(v.minimum) - 1) | st.integers(int(v.maximum) + 1, 9999)
    below, above = st.floats(-1e6, v.minimum, exclude_max=True), st.floats(v.maximum, 1e6, exclude_min=True)
    between = [st.sampled_from(v.excluded)] if v.excluded else []
    if v.step is not None:
        steps = st.integers(0, round((v.maximum - v.minimum) / v.step) - 1)
        between.append(steps.map(lambda n: v.minimum + (n + 0.5) * v.step))
    return st.one_of(below, above, *between)


@st.composite
def visits(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Visits of three patients on different days; the scale of ambulation is not told, so scores are not compared."""
    days = draw(st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True))
    return [
        {"subject_key": f"sbj_{1 + day % 3}", "visit_date": date(2015, 1, 2) + timedelta(days=day)}
        | {v.name: draw(inside(v)) for v in RANGED}
        for day in days
    ]


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(visits(), st.data())
def test_what_the_definition_allows_passes_and_what_it_does_not_is_refused(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    given_tables = {"patient": base()["patient"], "visit": frame("visit", rows)}
    results, _, findings = validate_frames(given_tables, SITE, today=TODAY)
    assert [finding for finding in findings if finding.entity_kind == "row"] == []
    assert results.filter((results["entity"] == "visit") & (results["status"] == "fail")).is_empty()

    number, v = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(RANGED))
    rows[number][v.name] = data.draw(outside(v))
    _, refused, findings = validate_frames(given_tables | {"visit": frame("visit", rows)}, SITE, today=TODAY)
    (finding,) = [finding for finding in findings if finding.entity_kind == "row"]
    assert (finding.rule_id, finding.entity_key) == (v.rule, f"01-visit-{number + 2}")
    assert v.name in finding.message
    assert refused.height == (1 if v.severity == "error" else 0)
