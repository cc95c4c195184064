"""MRIQC's structural image quality metrics under MRIQC's names, by MRIQC's own functions where these can be called.

Here: what is passed to `mriqc.qc.anatomical` (24.0.2), and the few metrics that MRIQC takes from other programs. As
there, the image is the one without its bias field, white matter's median scaled to 1000, over the whole field of view.
Not here: tissue classes (`qa.imaging.tissue`), air (`qa.imaging.air`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qa.imaging.air import Air, hat_problem, qi_2, rotation_mask
from qa.imaging.answers import all_unknown, answer, unknown
from qa.imaging.atlas import template
from qa.imaging.head import Surroundings, strides, thinned
from qa.imaging.mask import eroded
from qa.imaging.pose import Pose
from qa.imaging.tissue import NAMES, NOT_ALIGNED, Tissue
from qa.imaging.types import Image, Mask, Volume
from qa.model import Measure, Reason

AXES = ("x", "y", "z")
WHITE_MATTER = 1000.0
SURE_WHITE = 0.9
"""MRIQC scales by the white matter that is this probable, without its surface."""
OVERLAP_MM = 2.0
STATISTICS = ("k", "mad", "mean", "median", "n", "p05", "p95", "stdv")
TISSUE_NAMES = (
    *(f"snr_{name}" for name in (*NAMES, "total")), "cjv", "wm2max",
    *(f"{kind}_{name}" for kind in ("icvs", "rpve", "tpm_overlap") for name in NAMES),
    *(f"summary_{name}_{statistic}" for name in NAMES for statistic in STATISTICS),
)  # fmt: skip
"""Metrics that need tissue classes."""
AIR_NAMES = (
    *(f"snrd_{name}" for name in (*NAMES, "total")), "cnr",
    *(f"summary_bg_{statistic}" for statistic in STATISTICS),
)  # fmt: skip
"""Metrics that need tissue classes and air."""


def scaled(corrected: Image, brain: Mask, tissue: Tissue | None) -> Image:
    """The image as MRIQC sees it: without bias field, white matter's median at 1000, nothing below 0.

    Without tissue classes it is the brain's median that is 1000.
    """
    values = corrected[brain]
    level = float(np.median(values))
    if tissue is not None:
        white = np.zeros(brain.shape, bool)
        white[brain] = tissue.shares[2] > SURE_WHITE
        core = eroded(white)
        chosen = corrected[core if core.any() else white]
        level = float(np.median(chosen)) if chosen.size else level
    factor = WHITE_MATTER / level if level > 0 else 1.0
    image: Image = np.maximum(corrected * np.float32(factor), 0)
    return image


def tissue_metrics(image: Image, brain: Mask, tissue: Tissue, mask_sha256: str) -> list[Measure]:
    """SNR, CJV, WM2MAX, volume fractions, partial volume and the distribution of each tissue."""
    from mriqc.qc import anatomical

    stats = _statistics(image[brain], dict(zip(NAMES, tissue.shares, strict=True)))
    white, grey = stats["wm"], stats["gm"]
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = {name: anatomical.snr(stats[name]["median"], stats[name]["stdv"], stats[name]["n"]) for name in NAMES}
        values = {f"snr_{name}": value for name, value in snr.items()} | {
            "snr_total": float(np.mean(list(snr.values()))),
            "cjv": anatomical.cjv(white["median"], grey["median"], white["mad"], grey["mad"]),
            "wm2max": anatomical.wm2max(image, white["median"]),
        }
    values |= {f"icvs_{k}": v for k, v in anatomical.volume_fraction(list(tissue.shares)).items()}
    values |= {f"rpve_{k}": v for k, v in rpve(tissue.shares, image.size - tissue.shares.shape[1]).items()}
    values |= {f"summary_{name}_{k}": v for name in NAMES for k, v in stats[name].items()}
    return [answer(name, value, mask_sha256) for name, value in values.items()]


def _statistics(values: Image, shares: Mapping[str, NDArray[np.float32]]) -> dict[str, dict[str, float]]:
    """MRIQC's distribution of each class; voxels outside a class weigh nothing there and are left out here."""
    from mriqc.qc import anatomical

    found: dict[str, dict[str, float]] = {}
    for name, share in shares.items():
        part = share > 0
        summary = anatomical.summary_stats(values[part], {name: share[part]})[name]
        # numpy's numbers: dividing by a deviation of 0 then has no finite answer instead of raising.
        found[name] = {statistic: np.float64(value) for statistic, value in summary.items()}
    return found


def rpve(shares: NDArray[np.float32], outside_count: int) -> dict[str, float]:
    """Residual partial volume of each tissue.

    `mriqc.qc.anatomical.rpve` counts every voxel of the image that is surely not of the tissue, those outside the brain
    included, which `outside_count` says: that is why the metric depends on the field of view.
    """
    from mriqc.qc import anatomical

    inside = anatomical.rpve([share.copy() for share in shares], None)
    return {name: value + outside_count / int((shares[NAMES.index(name)] > 0).sum()) for name, value in inside.items()}


def air_metrics(
    image: Image, air: Air, problem: Reason | None, tissue: list[Measure], mask_sha256: str
) -> list[Measure]:
    """Dietrich's SNR, CNR and the air's distribution, from the tissue metrics and the air above the nose."""
    from mriqc import config
    from mriqc.qc import anatomical

    if problem is not None:
        return all_unknown(AIR_NAMES, problem, mask_sha256)
    # snr_dietrich warns through a logger that only mriqc's own start-up sets; without one it raises.
    config.loggers.interface = logging.getLogger("mriqc.interface")
    values = image[air.clean]
    noise = _statistics(values, {"bg": np.ones(values.size, np.float32)})["bg"]
    known = {m.name: m.value for m in tissue if m.value is not None}
    median, deviation = (
        {name: known.get(f"summary_{name}_{statistic}", np.nan) for name in NAMES} for statistic in ("median", "stdv")
    )
    dietrich = {name: anatomical.snr_dietrich(median[name], noise["mad"], noise["stdv"]) for name in NAMES}
    found = {f"snrd_{name}": value if value >= 0 else np.nan for name, value in dietrich.items()}
    found["snrd_total"] = float(np.mean(list(found.values())))
    found["cnr"] = anatomical.cnr(median["wm"], median["gm"], noise["stdv"], deviation["wm"], deviation["gm"])
    found |= {f"summary_bg_{k}": v for k, v in noise.items()}
    return [answer(name, value, mask_sha256) for name, value in found.items()]


def image_metrics(image: Image, around: Surroundings, air: Air | None, mask_sha256: str) -> list[Measure]:
    """EFC, FBER, QI1 and QI2, which need no tissue classes. Without an alignment there is no hat (`air` is None)."""
    from mriqc.qc import anatomical

    if not image.any():
        reason = Reason("empty_image", "The image is zero everywhere")
        return all_unknown(("efc", "fber", "qi_1", "qi_2"), reason, mask_sha256)
    rotation = rotation_mask(image)
    result = [answer("efc", anatomical.efc(image, rotation.astype(np.uint8)), mask_sha256)]
    problem = NOT_ALIGNED if air is None else hat_problem(around, air)
    if air is None or problem is not None:
        return result + all_unknown(("fber", "qi_1", "qi_2"), problem or NOT_ALIGNED, mask_sha256)
    energy = anatomical.fber(image, around.head.astype(np.uint8), rotation.astype(np.uint8))
    result.append(answer("fber", energy if energy >= 0 else float("nan"), mask_sha256))
    result.append(answer("qi_1", anatomical.art_qi1(air.clean, air.artefact), mask_sha256))
    misfit = qi_2(image[air.clean])
    if misfit is None:
        result.append(unknown("qi_2", "no_air", "There is too little signal in the air", mask_sha256))
    else:
        result.append(answer("qi_2", misfit, mask_sha256))
    return result


def field_metrics(field: Image, brain: Mask, mask_sha256: str) -> list[Measure]:
    """Range and median of the bias field in the brain."""
    low, middle, high = np.percentile(field[brain], [5, 50, 95])
    return [
        answer("inu_range", float(high - low), mask_sha256),
        answer("inu_med", float(middle), mask_sha256),
    ]


def grid_metrics(volume: Volume, mask_sha256: str) -> list[Measure]:
    """Voxels and their size along each axis, in RAS order."""
    return [
        *(answer(f"size_{axis}", float(n), mask_sha256) for axis, n in zip(AXES, volume.data.shape, strict=True)),
        *(answer(f"spacing_{axis}", float(s), mask_sha256) for axis, s in zip(AXES, volume.spacing, strict=True)),
    ]


def smoothness(image: Image, mask: Mask, axis: int) -> float:
    """Full width at half maximum of the image's smoothness along an axis, in voxels; NaN where it has no answer.

    Forman 1995 (doi:10.1002/mrm.1910330508), as AFNI's 3dFWHMx does on one volume: the variance of the difference of
    neighbours against that of the image, in a mask.
    """
    first, second = [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    both = mask[tuple(first)] & mask[tuple(second)]
    if both.sum() < 100:
        return float("nan")
    difference = image[tuple(second)][both] - image[tuple(first)][both]
    variance, step = float(image[mask].var(dtype=np.float64)), float(difference.var(dtype=np.float64))
    correlation = 1 - step / (2 * variance) if variance > 0 else 0.0
    if not 0 < correlation < 1:
        return float("nan")
    return float(np.sqrt(-2 * np.log(2) / np.log(correlation)))


def smoothness_metrics(volume: Volume, brain: Mask, mask_sha256: str) -> list[Measure]:
    """Smoothness inside the brain along each axis, and their mean."""
    found = [smoothness(volume.data, brain, axis) for axis in range(3)]
    named = dict(zip((f"fwhm_{axis}" for axis in AXES), found, strict=True)) | {"fwhm_avg": float(np.mean(found))}
    return [answer(name, value, mask_sha256) for name, value in named.items()]


def template_overlap(volume: Volume, brain: Mask, tissue: Tissue, pose: Pose, mask_sha256: str) -> list[Measure]:
    """Fuzzy Jaccard index of each tissue with the template's map laid over the image, at about 2 mm."""
    from scipy import ndimage

    thinning = strides(volume, OVERLAP_MM)
    grid = np.stack(np.meshgrid(*[np.arange(n)[t] for n, t in zip(brain.shape, thinning, strict=True)], indexing="ij"))
    maps = {kind: template(kind) for kind in ("gm", "wm", "t1")}
    to_voxel = np.linalg.inv(np.asarray(maps["t1"].affine, float)) @ np.linalg.inv(pose.matrix) @ volume.affine
    there = to_voxel[:3, :3] @ grid.reshape(3, -1) + to_voxel[:3, 3:]
    laid = {k: ndimage.map_coordinates(np.asarray(m.dataobj, np.float32), there, order=1) for k, m in maps.items()}
    grey, white = laid["gm"] / 255, laid["wm"] / 255
    fluid = np.clip((laid["t1"] > 0) - grey - white, 0, 1)
    result = []
    for name, share, expected in zip(NAMES, tissue.shares, (fluid, grey, white), strict=True):
        full = np.zeros(brain.shape, np.float32)
        full[brain] = share
        found = thinned(full, thinning).ravel()
        overlap = np.minimum(found, expected).sum() / max(float(np.maximum(found, expected).sum()), 1e-9)
        result.append(answer(f"tpm_overlap_{name}", float(overlap), mask_sha256))
    return result
