"""Tissue classes whose order follows the contrast, and the measures made of them.

Here: a three-class Gaussian mixture and SNR, CNR, CJV, EFC, FBER by MRIQC's own functions. A FLAIR's SNR is computed
here. Not here: the masks they are taken from (`qa.imaging.head`, `qa.imaging.mask`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from qa.imaging.answers import answer, unknown
from qa.imaging.head import Surroundings
from qa.imaging.mask import eroded
from qa.imaging.types import Image, Mask, Volume
from qa.model import Measure, Reason

ORDER = {
    "T1w": ("csf", "gm", "wm"),
    "FLAIR": ("csf", "wm", "gm"),
    "T2w": ("wm", "gm", "csf"),
    "PDw": ("csf", "wm", "gm"),
}
"""Tissues from dark to bright."""
SAMPLE = 60_000
ITERATIONS = 60
STRIPPED_SHARE = 0.02
"""Below this share of head tissue outside the brain the skull was removed."""
SURE = 0.8
"""A voxel belongs to a class when its probability is higher: partial volume belongs to none."""
ZERO_LIMIT = 0.05
"""Above this share of exact zeros the air says nothing about noise: the background was blanked."""
MINIMUM_VOXELS = 200
SCALE = 1000.0
"""MRIQC scales white matter to 1000; `snr_dietrich` treats an air MAD below 1 as none on that scale."""
TISSUE_NAMES = ("snr_csf", "snr_gm", "snr_wm", "snr_total", "cnr", "cjv")
AIR_NAMES = ("snrd_csf", "snrd_gm", "snrd_wm", "snrd_total")


@dataclass(frozen=True)
class Tissue:
    """Statistics of one class."""

    median: float
    deviation: float
    mad: float
    count: int


def fit_mixture(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and standard deviations of three Gaussians, dark to bright.

    Deterministic: every n-th value by position, quantile start, fixed number of EM steps.
    """
    sample = values[:: max(1, values.size // SAMPLE)].astype(np.float64)
    low, high = np.percentile(sample, [0.5, 99.5])
    sample = sample[(sample >= low) & (sample <= high)]
    means = np.percentile(sample, [10, 45, 85])
    deviations = np.full(3, max(float(sample.std()) / 3, 1e-6))
    weights = np.array([0.2, 0.4, 0.4])
    smallest = 0.02 * float(sample.std()) + 1e-6
    for _ in range(ITERATIONS):
        shares = _posteriors(sample, weights, means, deviations)
        mass = shares.sum(axis=1) + 1e-9
        weights = mass / mass.sum()
        means = (shares @ sample) / mass
        deviations = np.sqrt(
            np.maximum(
                (shares * (sample - means[:, None]) ** 2).sum(axis=1) / mass,
                smallest**2,
            )
        )
    order = np.argsort(means)
    return weights[order], means[order], deviations[order]


def _posteriors(values: np.ndarray, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    distance = (values[None] - means[:, None]) / deviations[:, None]
    density = weights[:, None] / deviations[:, None] * np.exp(-0.5 * np.minimum(distance**2, 600))
    shares: np.ndarray = density / np.maximum(density.sum(axis=0), 1e-300)
    return shares


def classify(values: np.ndarray, contrast: str) -> dict[str, np.ndarray]:
    """Which brain voxels are surely of which tissue: boolean arrays over `values` (intensities without their field)."""
    parameters = fit_mixture(values)
    shares = _posteriors(values.astype(np.float32), *parameters)
    return {name: shares[i] > SURE for i, name in enumerate(ORDER[contrast])}


def statistics(values: np.ndarray) -> Tissue:
    median = float(np.median(values))
    return Tissue(
        median,
        float(values.std(ddof=1)),
        float(np.median(np.abs(values - median))) * 1.4826,
        int(values.size),
    )


def why_no_tissue(contrast: str, dimension: str | None, is_derived: bool, outside_share: float) -> Reason | None:
    """Why tissue measures would mean nothing on this image, or None."""
    if contrast not in ORDER:
        return Reason(
            "contrast_unknown",
            f"There are no tissue measures for the contrast {contrast}",
        )
    if is_derived:
        return Reason("derived_image", "A derived image's noise is not the scanner's")
    if outside_share < STRIPPED_SHARE:
        return Reason(
            "skull_stripped",
            "The image shows a brain without its skull: it was processed before it was sent",
        )
    if dimension == "2D" and contrast in ("T1w", "FLAIR"):
        return Reason(
            "contrast_too_low",
            f"Grey and white matter overlap too much on a 2D {contrast} for tissue measures",
        )
    return None


def tissue_measures(
    volume: Volume,
    corrected: Image,
    brain: Mask,
    around: Surroundings,
    contrast: str,
    reason: Reason | None,
    mask_sha256: str,
) -> list[Measure]:
    """SNR per tissue, Dietrich SNR, CNR and CJV, each with a value or the reason why there is none."""
    if reason is not None:
        return [unknown(name, reason.code, reason.text, mask_sha256) for name in TISSUE_NAMES + AIR_NAMES]
    from mriqc import config
    from mriqc.qc import anatomical

    # snr_dietrich warns through a logger that only mriqc's own start-up sets; without one it raises.
    config.loggers.interface = logging.getLogger("mriqc.interface")
    inner = eroded(brain)
    values = corrected[inner]
    classes = {name: values[chosen] for name, chosen in classify(values, contrast).items()}
    if min(v.size for v in classes.values()) < MINIMUM_VOXELS:
        text = "The brain does not separate into fluid, grey and white matter"
        return [unknown(name, "classes_empty", text, mask_sha256) for name in TISSUE_NAMES + AIR_NAMES]
    scale = SCALE / float(np.median(classes["wm"]))
    stats = {name: statistics(v * scale) for name, v in classes.items()}
    air_reason = air_problem(around)
    air = statistics(volume.data[around.air] * scale) if air_reason is None else Tissue(0, 0, 0, 0)
    wm, gm = stats["wm"], stats["gm"]
    snrs = {name: anatomical.snr(s.median, s.deviation, s.count) for name, s in stats.items()}
    result = [answer(f"snr_{name}", value, mask_sha256) for name, value in snrs.items()]
    result.append(answer("snr_total", float(np.mean(list(snrs.values()))), mask_sha256))
    result.append(answer("cjv", anatomical.cjv(wm.median, gm.median, wm.mad, gm.mad), mask_sha256))
    if air_reason is not None:
        result += [unknown(n, air_reason.code, air_reason.text, mask_sha256) for n in (*AIR_NAMES, "cnr")]
        return result
    result.append(
        answer(
            "cnr",
            anatomical.cnr(wm.median, gm.median, air.deviation, wm.deviation, gm.deviation),
            mask_sha256,
        )
    )
    dietrich = {name: anatomical.snr_dietrich(s.median, air.mad, air.deviation) for name, s in stats.items()}
    result += [answer(f"snrd_{name}", value, mask_sha256) for name, value in dietrich.items()]
    result.append(answer("snrd_total", float(np.mean(list(dietrich.values()))), mask_sha256))
    return result


def air_problem(around: Surroundings) -> Reason | None:
    """Why the air says nothing about noise, or None."""
    if around.zero_share > ZERO_LIMIT:
        text = f"{100 * around.zero_share:.0f} % of the background is exactly zero: it was blanked before it was sent"
        return Reason("background_blanked", text)
    if int(around.air.sum()) < MINIMUM_VOXELS:
        return Reason(
            "no_air",
            "The head fills the field of view: there is no air to take the noise from",
        )
    return None


def whole_image_measures(volume: Volume, around: Surroundings, mask_sha256: str) -> list[Measure]:
    """EFC and FBER of the image as it was reconstructed, over its non-zero field of view."""
    from mriqc.qc import anatomical

    data = np.maximum(volume.data, 0)
    used = [np.flatnonzero(data.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if any(u.size == 0 for u in used):
        return [unknown(n, "empty_image", "The image is zero everywhere", mask_sha256) for n in ("efc", "fber")]
    frame = tuple(slice(u[0], u[-1] + 1) for u in used)
    data = data[frame]
    result = [answer("efc", anatomical.efc(data), mask_sha256)]
    problem = air_problem(around)
    if problem is not None:
        result.append(unknown("fber", problem.code, problem.text, mask_sha256))
    else:
        scale = SCALE / max(float(np.percentile(data[around.head[frame]], 75)), 1e-9)
        value = anatomical.fber(data * scale, around.head[frame].astype(np.uint8))
        result.append(answer("fber", value if value >= 0 else float("nan"), mask_sha256))
    return result
