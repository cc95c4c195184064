"""Probability of exclusion: few scans start from the network, missing measures are told, no scan is refused by it."""

from typing import Any

import numpy as np
import pytest

from qa.imaging.answers import CATALOGUE, answer, unknown
from qa.imaging.exclusion import NAME, exclusion_probability, load_model, network_ranks, own_ranks
from qa.imaging.verdict import judge, load_limits
from qa.model import Measure

MODEL = load_model()
SERIES: dict[str, Any] = {"contrast": "T1w", "acquisition_dimension": "3D"}
MEDIAN = MODEL.quantiles[:, MODEL.quantiles.shape[1] // 2]


def measures(values: np.ndarray = MEDIAN) -> dict[str, Measure]:
    return {name: answer(name, float(value)) for name, value in zip(MODEL.features, values, strict=True)}


def worst(share: float) -> np.ndarray:
    """Each measure moved from the median towards the end that speaks for exclusion."""
    weights = MODEL.own_weights + MODEL.network_weights
    place = 0.5 + 0.5 * share * np.sign(weights)
    grid = np.linspace(0, 1, MODEL.quantiles.shape[1])
    return np.array([np.interp(p, grid, q) for p, q in zip(place, MODEL.quantiles, strict=True)])


def test_every_feature_is_a_measure_of_the_catalogue() -> None:
    assert set(MODEL.features) <= set(CATALOGUE)


def test_a_median_scan_of_a_new_scanner_has_the_intercepts_probability() -> None:
    found = exclusion_probability(measures(), SERIES, [])
    assert found.probability.value == pytest.approx(1 / (1 + np.exp(-MODEL.intercept)), abs=1e-6)
    assert found.drivers == ()


def test_the_probability_rises_towards_the_bad_end_and_names_drivers() -> None:
    found = [exclusion_probability(measures(worst(share)), SERIES, []) for share in (0, 0.3, 0.6, 0.9)]
    values = [f.probability.value or 0 for f in found]
    assert values == sorted(values)
    assert values[-1] > 0.5
    assert 1 <= len(found[-1].drivers) <= 3
    assert set(found[-1].drivers) <= set(MODEL.features)


def test_a_scan_like_its_scanners_others_is_judged_milder_than_beside_better_ones() -> None:
    poor = worst(0.6)
    alike = exclusion_probability(measures(poor), SERIES, [list(poor)] * 30).probability.value
    beside = exclusion_probability(measures(poor), SERIES, [list(MEDIAN)] * 30 + [list(poor)]).probability.value
    assert alike is not None and beside is not None
    assert alike < beside


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"contrast": "FLAIR"}, "not_trained"),
        ({"acquisition_dimension": "2D"}, "not_trained"),
        ({"is_contrast_enhanced": True}, "not_trained"),
        ({"is_derived": True}, "derived_image"),
    ],
)
def test_what_no_rater_judged_has_a_reason(change: dict[str, Any], code: str) -> None:
    found = exclusion_probability(measures(), SERIES | change, [])
    assert found.probability.value is None
    assert found.probability.reason is not None
    assert found.probability.reason.code == code


def test_missing_measures_are_named() -> None:
    known = measures() | {"cjv": unknown("cjv", "classes_empty", "No classes")}
    reason = exclusion_probability(known, SERIES, []).probability.reason
    assert reason is not None
    assert reason.code == "measures_missing"
    assert "cjv" in reason.text


def test_ranks_are_centred_and_ties_share_theirs() -> None:
    quantiles = np.array([[0.0, 0.0, 0.0, 1.0, 2.0]])
    found = network_ranks(np.array([[0.0], [1.0], [9.0], [-9.0]]), quantiles)[:, 0]
    np.testing.assert_allclose(found, [-0.25, 0.25, 0.5, -0.5])
    own = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(own_ranks(own, own, np.zeros((3, 1)), 0.0)[:, 0], [-1 / 3, 0, 1 / 3])
    np.testing.assert_allclose(own_ranks(own, own[:0], np.full((3, 1), 0.2), 10.0)[:, 0], 0.2)


def test_advice_is_a_warning_and_changes_no_verdict() -> None:
    limits = load_limits()
    series = SERIES | {"field_strength_t": 3.0, "slice_thickness_mm": 1.0, "spacing_x_mm": 1.0, "spacing_y_mm": 1.0}
    sound = {name: unknown(name, "not_measured", "Not measured") for name in CATALOGUE}
    likely = {NAME: Measure(NAME, 0.9, "1", "lower", "test")}
    without, advised = judge(sound, series, limits), judge(sound | likely, series, limits)
    assert advised.verdict == without.verdict
    extra = [trouble for trouble in advised.troubles if trouble not in without.troubles]
    assert [(trouble.rule_id, trouble.severity) for trouble in extra] == [("IMG_EXCLUSION", "warning")]
    assert "0.90" in extra[0].text
