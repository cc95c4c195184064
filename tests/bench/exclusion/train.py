"""Train the model that ships, and its figures on ABIDE: each site judged by a model that never saw its labels.

    python -m tests.bench.exclusion.train

Writes `qa/imaging/exclusion_model/t1w.json` and `abide.json` beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from qa.imaging.exclusion import FOLDER
from tests.bench.exclusion import fitting
from tests.bench.exclusion.fitting import Table
from tests.bench.exclusion.selection import SHIPPED, SHIPPED_SET, feature_sets

VERSION = "ranvier-exclusion/1"
DIGITS = 6
FEW = (0, 5, 10, 20, 40)


def shipped_table() -> Table:
    whole = fitting.load("abide", "rater_3")
    return whole.only(feature_sets(whole)[SHIPPED_SET])


def shipped_form(table: Table, score: np.ndarray) -> dict[str, Any]:
    """The model of all scans, its log-odds calibrated by the left-out ones."""
    model = fitting.fit(table, np.ones(len(table.site), bool), SHIPPED)
    slope, shift = fitting.platt(score, table.is_excluded)
    ends = np.percentile(table.values, [1, 99], axis=0)
    return {
        "version": VERSION,
        "contrast": "T1w",
        "prior_scans": SHIPPED.prior_scans,
        "prevalence": round(float(table.is_excluded.mean()), DIGITS),
        "intercept": round(slope * model.intercept + shift, DIGITS),
        "features": [
            {
                "name": name,
                "own_weight": round(slope * float(model.own_weights[i]), DIGITS),
                "network_weight": round(slope * float(model.network_weights[i]), DIGITS),
                "p01": float(f"{ends[0, i]:.6g}"),
                "p99": float(f"{ends[1, i]:.6g}"),
                "quantiles": [float(f"{value:.6g}") for value in model.quantiles[i]],
            }
            for i, name in enumerate(table.features)
        ],
    }


def figures(table: Table, score: np.ndarray, models: dict[str, fitting.Model]) -> dict[str, Any]:
    probability = fitting.calibrated_left_out(table, score)
    few = {n: fitting.few_scans(table, models, n) for n in FEW}
    by_site = fitting.within_site_auc(table, score)
    return {
        "mean_within_site_auc": round(float(np.mean(list(by_site.values()))), 4),
        "within_site_auc": {site: round(value, 3) for site, value in by_site.items()},
        "pooled_auc": round(float(roc_auc_score(table.is_excluded, score)), 4),
        "calibration_error": round(fitting.calibration_error(probability, table.is_excluded), 4),
        "reliability": [[round(v, 3) for v in line] for line in fitting.reliability(probability, table.is_excluded)],
        "mean_within_site_auc_of_few_scans": {n: round(fitting.mean_within(table, s), 4) for n, s in few.items()},
    }


def main() -> None:
    table = shipped_table()
    score, models = fitting.leave_one_site_out(table, SHIPPED)
    found = figures(table, score, models)
    text = json.dumps(found, indent=1)
    (Path(__file__).parent / "abide.json").write_text(text + "\n", encoding="utf-8")
    form = json.dumps(shipped_form(table, score), separators=(",", ":")).replace('{"name"', '\n{"name"')
    (FOLDER / "t1w.json").write_text(form + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
