"""Ranks of the exclusion model: bounded, in order, and free of a scanner's constant offset once it has scans enough."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qa.imaging.exclusion import load_model, network_ranks, own_ranks

VALUES = st.floats(-1e6, 1e6, allow_subnormal=False)
SCANS = arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=VALUES)


@given(SCANS, arrays(float, (3, 11), elements=VALUES), st.floats(0.5, 50))
def test_ranks_are_bounded_and_in_order(values: np.ndarray, grid: np.ndarray, prior: float) -> None:
    network = network_ranks(values, np.sort(grid, axis=1))
    own = own_ranks(values, values, network, prior)
    for found in (network, own):
        assert (np.abs(found) <= 0.5 + 1e-12).all()
        for column, ranked in zip(values.T, found.T, strict=True):
            assert (np.diff(ranked[np.argsort(column, kind="stable")]) >= -1e-12).all()


@given(SCANS, st.integers(-1000, 1000))
def test_an_offset_of_the_whole_scanner_changes_no_own_rank(values: np.ndarray, offset: int) -> None:
    values = np.round(values)
    before = own_ranks(values, values, np.zeros_like(values), 0.0)
    np.testing.assert_array_equal(before, own_ranks(values + offset, values + offset, np.zeros_like(values), 0.0))


@given(st.data())
def test_any_measures_give_a_probability(data: st.DataObject) -> None:
    model = load_model()
    values = data.draw(arrays(float, (4, len(model.features)), elements=VALUES))
    found = model.probabilities(values[:1], values)
    assert ((found > 0) & (found < 1)).all()
