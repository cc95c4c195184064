"""The probability of each visible artefact, from the artefact scores.

Here: one logistic model an artefact, its numbers in `artefacts.yaml`. Not here: the scores, or where the numbers come
from (`tests/bench/artefacts.py` fits them on degraded heads).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from qa.imaging.answers import answer, unknown
from qa.model import Measure

FEATURES: dict[str, tuple[str, ...]] = {
    "motion": ("motion_smear_pct", "ghost_pct", "ghost_likeness", "wrap_pct"),
    "ghost": ("ghost_pct", "ghost_likeness", "wrap_pct"),
    "wrap": ("wrap_pct",),
    "spike": ("spike_ratio",),
    "zipper": ("zipper_pct",),
    "low_snr": ("noise_pct",),
    "bias": ("bias_cv_pct",),
    "dropout": ("dropout_pct",),
    "blur": ("edge_width", "noise_pct"),
}
"""Which scores tell each artefact; a score that another artefact raises as well stands beside that one's own."""
DECIMALS = 6


@dataclass(frozen=True)
class Model:
    """A logistic model on the logarithms of some scores."""

    intercept: float
    weights: dict[str, float]

    def probability(self, scores: Mapping[str, float]) -> float:
        """Probability, 0-1, from every score that the model weighs."""
        logit = self.intercept + sum(weight * scaled(scores[name]) for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


def scaled(score: float) -> float:
    """Scores span decades and start at nothing: ln(1 + score), below 0 taken as 0."""
    return math.log1p(max(score, 0.0))


@lru_cache(maxsize=1)
def models() -> dict[str, Model]:
    """The model of each artefact."""
    content = yaml.safe_load((Path(__file__).parent / "artefacts.yaml").read_text(encoding="utf-8"))
    return {name: Model(entry["intercept"], entry["weights"]) for name, entry in content.items()}


def probabilities(scores: Mapping[str, Measure], mask_sha256: str) -> list[Measure]:
    """The probability of each artefact; without one of its scores, that score's reason."""
    result = []
    for artefact, model in models().items():
        name = f"{artefact}_probability"
        values = {key: scores[key].value for key in model.weights}
        known = {key: value for key, value in values.items() if value is not None}
        missing = next((scores[key].reason for key in model.weights if key not in known), None)
        if missing is not None:
            result.append(unknown(name, missing.code, missing.text, mask_sha256))
        else:
            result.append(answer(name, round(model.probability(known), DECIMALS), mask_sha256))
    return result
