"""Which variant ships, by leave-one-site-out on ABIDE alone, and the log of every variant tried.

python -m tests.bench.exclusion.selection OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score

from tests.bench.exclusion import fitting
from tests.bench.exclusion.fitting import Recipe, Table

ANATOMY = ("icvs_", "tpm_overlap_", "rpve_")
"""Move with ventricles, atrophy, lesions and the tool that classified; rpve also with the field of view."""
AIR = ("fber", "qi_", "snrd_", "summary_bg_", "cnr")
"""Have no value where the background was blanked."""
OUTSIDE = (
    "inu_range", "snr_gm", "snr_total", "summary_csf_", "summary_gm_k", "summary_gm_mad", "summary_gm_p05",
    "summary_gm_stdv", "summary_wm_k", "summary_wm_mean", "summary_wm_median", "summary_wm_p05",
)  # fmt: skip
"""Our chain's values of two sound 3D T1w heads lie outside ABIDE's 1st to 99th percentile."""


SHIPPED_SET = "reproduced: no anatomy, no air, within range"


def without(table: Table, *prefixes: str) -> tuple[str, ...]:
    return tuple(name for name in table.features if not name.startswith(prefixes))


def feature_sets(table: Table) -> dict[str, tuple[str, ...]]:
    return {
        "all": table.features,
        "all but rpve": without(table, "rpve_"),
        "all but air": without(table, *AIR),
        "all but anatomy": without(table, *ANATOMY),
        "neither anatomy nor air": without(table, *ANATOMY, *AIR),
        SHIPPED_SET: without(table, *ANATOMY, *AIR, *OUTSIDE),
        "the same and white matter's overlap": (*without(table, *ANATOMY, *AIR, *OUTSIDE), "tpm_overlap_wm"),
        "the same without smoothness": without(table, *ANATOMY, *AIR, *OUTSIDE, "fwhm_"),
    }


SHIPPED = Recipe(prior_scans=10, inverse_penalty=0.1)
RECIPES = {
    "network's rank alone": Recipe(has_own=False),
    "own rank alone, no prior": Recipe(prior_scans=0, has_network=False),
    "own rank alone, prior 10": Recipe(has_network=False),
    "both ranks, no prior": Recipe(prior_scans=0),
    "both ranks, prior 5": Recipe(prior_scans=5),
    "both ranks, prior 10": SHIPPED,
    "both ranks, prior 20": Recipe(prior_scans=20),
    "both ranks, prior 10, weaker penalty": Recipe(inverse_penalty=0.3),
    "both ranks, prior 10, stronger penalty": Recipe(inverse_penalty=0.03),
}


def trees(kind: type, table: Table, leaf: int) -> np.ndarray:
    """Left-out scores of a forest on the raw measures."""
    result = np.zeros(len(table.site))
    for site in table.sites:
        here = table.site == site
        forest = kind(100, min_samples_leaf=leaf, random_state=0).fit(table.values[~here], table.is_excluded[~here])
        result[here] = forest.predict_proba(table.values[here])[:, 1]
    return result


def line(name: str, features: str, table: Table, score: np.ndarray) -> dict[str, Any]:
    found = {
        "variant": name,
        "features": features,
        "features_count": len(table.features),
        "mean_within_site_auc": round(fitting.mean_within(table, score), 4),
        "pooled_auc": round(float(roc_auc_score(table.is_excluded, score)), 4),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return found


def main(out: Path) -> None:
    whole = fitting.load("abide", "rater_3")
    sets = feature_sets(whole)
    log = [
        line("raw forest, leaves of 10", "all", whole, trees(RandomForestClassifier, whole, 10)),
        line("raw extra trees, leaves of 10", "all", whole, trees(ExtraTreesClassifier, whole, 10)),
    ]
    for chosen in ("all", SHIPPED_SET):
        table = whole.only(sets[chosen])
        log += [line(n, chosen, table, fitting.leave_one_site_out(table, r)[0]) for n, r in RECIPES.items()]
    for chosen in [name for name in sets if name not in ("all", SHIPPED_SET)]:
        table = whole.only(sets[chosen])
        log.append(line("both ranks, prior 10", chosen, table, fitting.leave_one_site_out(table, SHIPPED)[0]))
    out.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
