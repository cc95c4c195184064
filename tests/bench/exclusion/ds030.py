"""The one test on DS030, written down before it was run: scanners, rater and study that no choice was made on.

    python -m tests.bench.exclusion.ds030

The shipped model, the same kind with all measures, and a forest on raw measures, all trained on ABIDE, are compared on
DS030. Each DS030 site's scans, without labels, are each other's own. Writes `ds030.json` beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier

from qa.imaging.exclusion import Model, load_model
from tests.bench.exclusion import fitting
from tests.bench.exclusion.fitting import Table
from tests.bench.exclusion.selection import SHIPPED


def by_site(model: Model, table: Table) -> np.ndarray:
    score = np.zeros(len(table.site))
    for site in table.sites:
        here = table.site == site
        score[here] = fitting.log_odds(model, table.values[here], table.values[here])
    return score


def auc_on(table: Table, score: np.ndarray, chosen: np.ndarray | None = None) -> float:
    chosen = np.arange(len(score)) if chosen is None else chosen
    truth = table.is_excluded[chosen]
    rank, bad = rankdata(score[chosen]), int(truth.sum())
    return float((rank[truth].sum() - bad * (bad + 1) / 2) / (bad * (len(truth) - bad)))


def against(table: Table, score: np.ndarray, forest: np.ndarray) -> dict[str, Any]:
    """AUC with interval, and the paired difference from the forest with interval."""
    sound = np.flatnonzero(~table.is_excluded)
    ghosts = np.r_[np.flatnonzero(table.is_excluded & table.is_ghost), sound]
    others = np.r_[np.flatnonzero(table.is_excluded & ~table.is_ghost), sound]
    return {
        "auc": round(auc_on(table, score), 4),
        "auc_interval": rounded(fitting.bootstrap(lambda i: auc_on(table, score, i), table)),
        "difference_from_raw_forest": round(auc_on(table, score) - auc_on(table, forest), 4),
        "difference_interval": rounded(
            fitting.bootstrap(lambda i: auc_on(table, score, i) - auc_on(table, forest, i), table)
        ),
        "auc_of_ghosts": round(auc_on(table, score, ghosts), 4),
        "auc_of_others": round(auc_on(table, score, others), 4),
    }


def rounded(pair: tuple[float, float]) -> list[float]:
    return [round(value, 4) for value in pair]


def calibration(table: Table, log_odds: np.ndarray, prevalence: float) -> dict[str, Any]:
    """Reliability as it stands, and with the log-odds moved by the difference of the two studies' prevalences."""
    here = float(table.is_excluded.mean())
    shift = np.log(here / (1 - here)) - np.log(prevalence / (1 - prevalence))
    found = {}
    for name, probability in (("before", fitting.sigmoid(log_odds)), ("after", fitting.sigmoid(log_odds + shift))):
        curve = fitting.reliability(probability, table.is_excluded)
        found[f"reliability_{name}_shift"] = [[round(v, 3) for v in line] for line in curve]
        found[f"calibration_error_{name}_shift"] = round(fitting.calibration_error(probability, table.is_excluded), 4)
    return found


def main() -> None:
    abide, table = fitting.load("abide", "rater_3"), fitting.load("ds030", "rater_1")
    shared = tuple(name for name in abide.features if name in table.features)
    abide, table = abide.only(shared), table.only(shared)
    forest = RandomForestClassifier(500, min_samples_leaf=10, random_state=0).fit(abide.values, abide.is_excluded)
    raw = forest.predict_proba(table.values)[:, 1]
    shipped = load_model()
    score = by_site(shipped, table.only(shipped.features))
    everything = by_site(fitting.fit(abide, np.ones(len(abide.site), bool), SHIPPED), table)
    found = {
        "scans": len(table.site),
        "excluded": int(table.is_excluded.sum()),
        "excluded_ghosts": int((table.is_excluded & table.is_ghost).sum()),
        "raw_forest": {"auc": round(auc_on(table, raw), 4)},
        "shipped": against(table, score, raw) | calibration(table, score, float(abide.is_excluded.mean())),
        "all_measures": against(table, everything, raw),
    }
    text = json.dumps(found, indent=1)
    (Path(__file__).parent / "ds030.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
