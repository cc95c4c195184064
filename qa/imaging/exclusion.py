"""The probability that a rater would exclude a T1w scan, and the measures that drive it.

Here: reading the shipped model (`exclusion_model/`, data and card) and evaluating it with numpy. Not here: training and
its figures (`tests/bench/exclusion`), the limit that makes advice of a probability (`thresholds.yaml`), measuring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa.model import Measure, Reason

FOLDER = Path(__file__).parent / "exclusion_model"
NAME = "exclusion_probability"
DRIVERS = 3
"""Measures named as drivers, at most."""
LEAST_DRIVE = 0.1
"""A measure that moves the log-odds by less than this drives nothing."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A logistic model on two ranks of each measure.

    `quantiles` (features, q) are the training network's, from 0 to 1 in equal steps; `own_weights` and
    `network_weights` (features,) belong to a scan's centred rank among its own scanner's scans and among the training
    network's.
    """

    version: str
    contrast: str
    features: tuple[str, ...]
    quantiles: Array
    own_weights: Array
    network_weights: Array
    intercept: float
    prior_scans: float

    def contributions(self, values: Array, own: Array) -> Array:
        """What each measure adds to the log-odds of exclusion, (scans, features); positive speaks for exclusion."""
        network = network_ranks(values, self.quantiles)
        mine = own_ranks(values, own, network, self.prior_scans)
        return mine * self.own_weights + network * self.network_weights

    def probabilities(self, values: Array, own: Array) -> Array:
        """Probability of exclusion (scans,), 0 to 1, of `values` (scans, features) beside the scanner's `own`."""
        odds: Array = 1 / (1 + np.exp(-(self.contributions(values, own).sum(axis=1) + self.intercept)))
        return odds


@dataclass(frozen=True)
class Exclusion:
    """The probability as a measure (a value or a reason), and its drivers, strongest first."""

    probability: Measure
    drivers: tuple[str, ...] = ()


def network_ranks(values: Array, quantiles: Array) -> Array:
    """Centred rank (-0.5 to 0.5) of each value (scans, features) in the network's distribution."""
    grid = np.linspace(0, 1, quantiles.shape[1])
    columns = []
    for column, known in zip(values.T, quantiles, strict=True):
        low, high = np.searchsorted(known, column, "left"), np.searchsorted(known, column, "right") - 1
        tied = (grid[np.minimum(low, grid.size - 1)] + grid[np.maximum(high, 0)]) / 2
        columns.append(np.where(high > low, tied, np.interp(column, known, grid)) - 0.5)
    return np.stack(columns, axis=1)


def own_ranks(values: Array, own: Array, network: Array, prior_scans: float) -> Array:
    """Centred rank of each value among the scanner's own scans, drawn to the network's rank while these are few.

    The mean of a Dirichlet process's posterior (Ferguson 1973, doi:10.1214/aos/1176342360): the network counts as
    `prior_scans` scans of the scanner, so that a new scanner starts from the network and ends with itself.
    """
    count = own.shape[0]
    if count + prior_scans == 0:
        return network
    columns = []
    for column, known in zip(values.T, np.sort(own, axis=0).T, strict=True):
        below = (np.searchsorted(known, column, "left") + np.searchsorted(known, column, "right")) / 2
        columns.append(below - count / 2)
    ranked: Array = (np.stack(columns, axis=1) + prior_scans * network) / (count + prior_scans)
    return ranked


@lru_cache(maxsize=1)
def load_model() -> Model:
    """The shipped model."""
    stored = json.loads((FOLDER / "t1w.json").read_text(encoding="utf-8"))
    return model_of(stored)


def model_of(stored: Mapping[str, Any]) -> Model:
    """A model from its JSON form, as `exclusion_model/t1w.json` holds it."""
    features = stored["features"]
    return Model(
        stored["version"],
        stored["contrast"],
        tuple(feature["name"] for feature in features),
        np.array([feature["quantiles"] for feature in features], float),
        np.array([feature["own_weight"] for feature in features], float),
        np.array([feature["network_weight"] for feature in features], float),
        float(stored["intercept"]),
        float(stored["prior_scans"]),
    )


def values_of(measures: Mapping[str, Measure], model: Model) -> list[float] | None:
    """The model's measures of one scan in its order; None when one has no value."""
    found = [measures[name].value if name in measures else None for name in model.features]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def why_not(measures: Mapping[str, Measure], series: Mapping[str, Any], model: Model) -> Reason | None:
    """Why the model says nothing of a scan, or None."""
    contrast = series.get("contrast") or "unknown"
    if contrast != model.contrast:
        return Reason("not_trained", f"Raters' labels exist for {model.contrast} only, not for {contrast}")
    if series.get("acquisition_dimension") == "2D":
        return Reason("not_trained", "Raters' labels exist for 3D T1w only")
    if series.get("is_contrast_enhanced"):
        return Reason("not_trained", "Raters' labels exist for T1w without contrast agent only")
    if series.get("is_derived"):
        return Reason("derived_image", "A derived image is not what the raters judged")
    missing = [name for name in model.features if name not in measures or measures[name].value is None]
    if missing:
        return Reason("measures_missing", f"The model needs {', '.join(missing)}, which have no value on this scan")
    return None


def exclusion_probability(
    measures: Mapping[str, Measure], series: Mapping[str, Any], own: Sequence[Sequence[float]]
) -> Exclusion:
    """The probability that a rater would exclude a scan.

    Parameters
    ----------
    measures
        Of the scan, by name.
    series
        A row of `raw_imaging__series`.
    own
        `values_of` each scan of the same scanner and contrast, this one among them; empty for a scanner without any.
    """
    model = load_model()
    reason = why_not(measures, series, model)
    values = values_of(measures, model)
    if reason is not None or values is None:
        return Exclusion(Measure(NAME, None, "1", "lower", model.version, reason))
    row = np.array([values], float)
    beside = np.array(own, float).reshape(-1, len(model.features))
    value = float(model.probabilities(row, beside)[0])
    moved = model.contributions(row, beside)[0]
    strongest = [int(i) for i in np.argsort(-moved, kind="stable")[:DRIVERS] if moved[i] >= LEAST_DRIVE]
    return Exclusion(Measure(NAME, value, "1", "lower", model.version), tuple(model.features[i] for i in strongest))
