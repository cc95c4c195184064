"""Fitting and judging exclusion models on raters' labels: what selection, training and the final test share.

Here: the tables of the package mriqc-learn (Apache-2.0), which the lock file brings; splits by site; figures. Not here:
which variants are tried (`selection.py`). Nothing of the tables is kept in the project.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from qa.imaging.exclusion import Model, network_ranks, own_ranks

TABLES = "RANVIER_MRIQC_LEARN"
"""Environment variable: folder with abide.tsv and ds030.tsv, where they are not the installed package's."""
EXCLUDE = -1
NOT_QUALITY = ("size_", "spacing_")
"""Describe the protocol, by which a site would be told and not a scan."""
STEPS = 101
BINS = 10


@dataclass(frozen=True)
class Table:
    """Measures (scans, features), whether the rater excluded each scan, its site and whether a ghost was noted."""

    features: tuple[str, ...]
    values: np.ndarray
    is_excluded: np.ndarray
    site: np.ndarray
    is_ghost: np.ndarray

    def only(self, features: tuple[str, ...]) -> Table:
        columns = [self.features.index(name) for name in features]
        return Table(features, self.values[:, columns], self.is_excluded, self.site, self.is_ghost)

    @property
    def sites(self) -> list[str]:
        return sorted(set(self.site))


def load(name: str, rater: str) -> Table:
    """`abide` (rater_3) or `ds030` (rater_1)."""
    folder = os.environ.get(TABLES)
    if folder is None:
        found = importlib.util.find_spec("mriqc_learn")
        if found is None or found.origin is None:
            raise SystemExit(f"Install mriqc-learn or set {TABLES} to the folder with its tables.")
        folder = str(Path(found.origin).parent / "datasets")
    frame = pd.read_csv(Path(folder) / f"{name}.tsv", sep="\t")
    first = frame.columns.get_loc("cjv")
    features = tuple(
        column for column in frame.columns[first:] if not column.startswith(NOT_QUALITY) and not column.endswith("_n")
    )
    ghost = frame["has_ghost"].to_numpy(bool) if "has_ghost" in frame else np.zeros(len(frame), bool)
    return Table(
        features,
        frame[list(features)].to_numpy(float),
        (frame[rater] == EXCLUDE).to_numpy(),
        frame["site"].to_numpy(str),
        ghost,
    )


@dataclass(frozen=True)
class Recipe:
    """What a logistic variant is: prior strength, inverse penalty, and which of the two ranks it sees."""

    prior_scans: float = 10
    inverse_penalty: float = 0.1
    has_own: bool = True
    has_network: bool = True


def quantiles_of(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, STEPS), axis=0).T


def ranks(table: Table, chosen: np.ndarray, quantiles: np.ndarray, prior_scans: float) -> np.ndarray:
    """Own and network ranks side by side, (chosen scans, 2 x features); each site's scans are each other's own."""
    result = np.empty((len(table.site), 2 * len(table.features)))
    for site in sorted(set(table.site[chosen])):
        here = table.site == site
        network = network_ranks(table.values[here], quantiles)
        result[here] = np.hstack([own_ranks(table.values[here], table.values[here], network, prior_scans), network])
    return result[chosen]


def fit(table: Table, chosen: np.ndarray, recipe: Recipe) -> Model:
    """A model of the chosen scans, not yet calibrated across sites."""
    quantiles = quantiles_of(table.values[chosen])
    inputs = ranks(table, chosen, quantiles, recipe.prior_scans)
    count = len(table.features)
    used = np.r_[np.full(count, recipe.has_own), np.full(count, recipe.has_network)]
    spread = np.where(inputs.std(axis=0) > 0, inputs.std(axis=0), 1)
    fitted = LogisticRegression(C=recipe.inverse_penalty, max_iter=2000)
    fitted.fit((inputs / spread)[:, used], table.is_excluded[chosen])
    weights = np.zeros(2 * count)
    weights[used] = fitted.coef_[0]
    weights /= spread
    return Model(
        "", "T1w", table.features, quantiles, weights[:count], weights[count:],
        float(fitted.intercept_[0]), recipe.prior_scans,
    )  # fmt: skip


def log_odds(model: Model, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    return model.contributions(values, own).sum(axis=1) + model.intercept


def leave_one_site_out(table: Table, recipe: Recipe) -> tuple[np.ndarray, dict[str, Model]]:
    """Log-odds of each scan from a model that never saw its site's labels, and these models by site."""
    result, models = np.zeros(len(table.site)), {}
    for site in table.sites:
        here = table.site == site
        models[site] = fit(table, ~here, recipe)
        result[here] = log_odds(models[site], table.values[here], table.values[here])
    return result, models


def few_scans(table: Table, models: dict[str, Model], count: int, seed: int = 0) -> np.ndarray:
    """As `leave_one_site_out`, each scan judged beside `count` others of its site, drawn at random."""
    random, result = np.random.default_rng(seed), np.zeros(len(table.site))
    for site, model in models.items():
        here = np.flatnonzero(table.site == site)
        for scan in here:
            others = random.permutation(here[here != scan])[: max(count - 1, 0)]
            own = table.values[np.r_[scan, others]] if count else table.values[:0]
            result[scan] = log_odds(model, table.values[scan : scan + 1], own)[0]
    return result


def within_site_auc(table: Table, score: np.ndarray) -> dict[str, float]:
    """Area under the curve of each site that holds both kinds of scan."""
    found = {}
    for site in table.sites:
        here = table.site == site
        if 0 < table.is_excluded[here].sum() < here.sum():
            found[site] = float(roc_auc_score(table.is_excluded[here], score[here]))
    return found


def mean_within(table: Table, score: np.ndarray) -> float:
    return float(np.mean(list(within_site_auc(table, score).values())))


def platt(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope and shift that turn log-odds into calibrated ones (Platt 1999)."""
    fitted = LogisticRegression(C=1e6).fit(score[:, None], truth)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def sigmoid(score: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-score))
    return result


def calibrated_left_out(table: Table, score: np.ndarray) -> np.ndarray:
    """Probabilities of each site by the calibration of all the other sites' left-out scores."""
    result = np.zeros(len(score))
    for site in table.sites:
        here = table.site == site
        slope, shift = platt(score[~here], table.is_excluded[~here])
        result[here] = sigmoid(slope * score[here] + shift)
    return result


def reliability(probability: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean probability, share excluded and scans of ten bins of equal count."""
    parts = np.array_split(np.argsort(probability, kind="stable"), BINS)
    return [(float(probability[p].mean()), float(truth[p].mean()), len(p)) for p in parts]


def calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal count."""
    curve = reliability(probability, truth)
    return sum(count * abs(said - seen) for said, seen, count in curve) / len(truth)


def bootstrap(statistic: Callable[[np.ndarray], float], table: Table, times: int = 1000) -> tuple[float, float]:
    """95 % interval of a statistic of scan indices, drawn anew within each class."""
    random = np.random.default_rng(20190522)
    groups = [np.flatnonzero(table.is_excluded == kind) for kind in (True, False)]
    found = [statistic(np.concatenate([random.choice(g, g.size) for g in groups])) for _ in range(times)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
