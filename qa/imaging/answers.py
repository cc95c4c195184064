"""Making measures: every measure's unit and direction stated once.

Here: the catalogue of measures (name, unit, direction, what it is) and the two ways to answer. Not here: any formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qa.model import Direction, Measure, Reason

METHOD_VERSION = "ranvier-img/1"
"""Raise when any formula below changes: images are then measured again."""


@dataclass(frozen=True)
class Kind:
    """What a measure is: unit, which way is better, one sentence."""

    unit: str
    direction: Direction
    meaning: str


_TISSUES = {"csf": "cerebrospinal fluid", "gm": "grey matter", "wm": "white matter"}
SIDE_NAMES = ("left", "right", "posterior", "anterior", "inferior", "superior")

CATALOGUE: dict[str, Kind] = {
    "brain_volume_ml": Kind("ml", "none", "Volume of the brain mask, fluid included."),
    "brain_section_mm2": Kind(
        "mm2",
        "none",
        "Largest cross-section of the brain mask on any of the three axes.",
    ),
    "mni_dice": Kind(
        "1",
        "higher",
        "Overlap (Dice) of the brain mask with the MNI brain after affine alignment; 0-1.",
    ),
    "mni_symmetry": Kind(
        "1",
        "higher",
        "Correlation of the brain with its mirror image after alignment; -1 to 1.",
    ),
    "mni_structure": Kind(
        "1",
        "higher",
        "Share of the brain's intensity that MNI's tissue maps explain (partial R2); 0-1.",
    ),
    "mni_scale": Kind(
        "1",
        "target",
        "Cube root of the alignment's volume ratio to the MNI brain; about 0.9.",
    ),
    "zero_background_pct": Kind("%", "none", "Share of voxels outside the head that are exactly zero."),
    "outside_signal_pct": Kind(
        "%",
        "none",
        "Share of the tissue that lies outside the brain; near 0 when skull-stripped.",
    ),
    **{f"snr_{k}": Kind("1", "higher", f"Median over standard deviation inside {t}.") for k, t in _TISSUES.items()},
    "snr_total": Kind("1", "higher", "Mean of the three tissue SNRs."),
    **{
        f"snrd_{k}": Kind("1", "higher", f"Median of {t} over the noise of the air (Dietrich 2007).")
        for k, t in _TISSUES.items()
    },
    "snrd_total": Kind("1", "higher", "Mean of the three Dietrich SNRs."),
    "cnr": Kind(
        "1",
        "higher",
        "Contrast of grey and white matter over their joint noise (Magnotta 2006).",
    ),
    "cjv": Kind(
        "1",
        "lower",
        "Joint variation of grey and white matter over their difference (Ganzetti 2016).",
    ),
    "efc": Kind(
        "1",
        "lower",
        "Entropy focus criterion (Atkinson 1997); 0 sharp, 1 all voxels alike.",
    ),
    "fber": Kind("1", "higher", "Median energy inside the head over that outside (Shehzad 2015)."),
    **{
        f"offset_{axis}_mm": Kind(
            "mm",
            "target",
            f"Brain centre from the magnet's isocentre towards {side}; 0 is best.",
        )
        for axis, side in (("x", "the right"), ("y", "the front"), ("z", "the crown"))
    },
    "pitch_deg": Kind(
        "deg",
        "target",
        "Nodding: nose-up rotation against the MNI brain; heads at rest show about +13.",
    ),
    "roll_deg": Kind(
        "deg",
        "target",
        "Ear towards shoulder: rotation about the front-back axis; 0 is best.",
    ),
    "yaw_deg": Kind("deg", "target", "Turning: rotation about the head-foot axis; 0 is best."),
    **{f"margin_{s}_mm": Kind("mm", "higher", f"Brain to the field of view's {s} edge.") for s in SIDE_NAMES},
    **{
        f"cut_area_{s}_mm2": Kind("mm2", "lower", f"Brain cross-section at the field of view's {s} edge.")
        for s in SIDE_NAMES
    },
    "noise_pct": Kind(
        "%",
        "lower",
        "Noise (wavelet MAD, Coupe 2010) as a share of the brain's median intensity.",
    ),
    "air_noise_pct": Kind("%", "lower", "Air level (Rayleigh) as a share of the brain's median intensity."),
    "bias_cv_pct": Kind("%", "lower", "Coefficient of variation of the N4 field in the brain."),
    "ghost_pct": Kind(
        "%",
        "lower",
        "Largest excess signal half a field of view from the head, share of head signal.",
    ),
    "motion_smear_pct": Kind(
        "%",
        "lower",
        "Excess background along one axis beside the head, share of brain signal.",
    ),
    "gradient_entropy": Kind("1", "lower", "Entropy of edge strength in the brain (McGee 2000); 0-1."),
}


def answer(name: str, value: float, mask_sha256: str | None = None) -> Measure:
    """A measure with its value; one that is not a finite number becomes an answer with a reason."""
    if not math.isfinite(value):
        return unknown(
            name,
            "not_finite",
            "The formula has no finite answer on this image",
            mask_sha256,
        )
    kind = CATALOGUE[name]
    return Measure(name, float(value), kind.unit, kind.direction, METHOD_VERSION, None, mask_sha256)


def unknown(name: str, code: str, text: str, mask_sha256: str | None = None) -> Measure:
    """A measure that cannot be told, and why."""
    kind = CATALOGUE[name]
    return Measure(
        name,
        None,
        kind.unit,
        kind.direction,
        METHOD_VERSION,
        Reason(code, text),
        mask_sha256,
    )
