"""Probability of fluid, grey and white matter in each voxel of the brain, for any anatomical contrast.

Here: the template's maps laid over the brain, and a three-class Gaussian mixture whose mixing proportions are these
maps. Which tissue is dark and which is bright follows from the image and is compared with the contrast afterwards. Not
here: what is measured in the classes (`qa.imaging.iqm`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from qa.imaging.atlas import template
from qa.imaging.head import stretch
from qa.imaging.pose import Pose
from qa.imaging.types import Image, Mask, Volume
from qa.model import Reason

ORDER = {
    "T1w": ("csf", "gm", "wm"),
    "FLAIR": ("csf", "wm", "gm"),
    "T2w": ("wm", "gm", "csf"),
    "PDw": ("wm", "gm"),
}
"""Tissues from dark to bright. Fluid of a PDw may be darker or brighter, as its repetition time goes."""
NAMES = ("csf", "gm", "wm")
SAMPLE = 60_000
ITERATIONS = 40
PRIOR_STEP_MM = 3.0
PRIOR_SMOOTH_MM = 3.0
"""An affine leaves gyri several millimetres off their template."""
PRIOR_FLOOR = 0.3
"""Share of the mixing proportions that the template does not decide."""
TRIM_PERCENT = (0.5, 99.5)
LEAST_SEPARATION = 1.0
"""Grey and white matter nearer to each other than this many of their deviations are not two classes."""
STRIPPED_SHARE = 0.02
"""Below this share of head tissue outside the brain the skull was removed."""
MINIMUM_VOXELS = 2000
DECIMALS = 3
"""Probabilities are kept to three decimals, as MRIQC does before it uses them."""


NOT_ALIGNED = Reason("not_aligned", "There is no brain large enough to align")


@dataclass(frozen=True)
class Tissue:
    """Tissue of the brain's voxels, in C order of the brain mask.

    `shares` are probabilities (3, n) in the order of `NAMES`, to three decimals; `priors` the template's; `means` and
    `deviations` the classes' Gaussians in the units of the field-corrected image.
    """

    shares: NDArray[np.float32]
    priors: NDArray[np.float32]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @property
    def separation(self) -> float:
        """Distance of grey from white matter in units of their deviations."""
        spread = np.sqrt((self.deviations[1] ** 2 + self.deviations[2] ** 2) / 2)
        return float(abs(self.means[1] - self.means[2]) / spread)


@lru_cache(maxsize=1)
def _maps() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Smoothed probability of grey and white matter (2, x, y, z), and millimetres to their voxels."""
    images = [template(kind) for kind in ("gm", "wm")]
    back = np.linalg.inv(np.asarray(images[0].affine, float))
    maps = [np.asarray(i.dataobj, np.float32) / 255 for i in images]
    return np.stack([ndimage.gaussian_filter(m, PRIOR_SMOOTH_MM) for m in maps]), back


def priors(volume: Volume, brain: Mask, pose: Pose) -> NDArray[np.float32]:
    """The template's fluid, grey and white matter at each voxel of the brain: (3, n), each column adds up to 1.

    nilearn ships grey and white matter of ICBM 2009a; fluid is what they leave.
    """
    maps, to_voxel = _maps()
    box = _box(brain)
    steps = [max(1, round(PRIOR_STEP_MM / s)) for s in volume.spacing]
    counts = [-(-(b.stop - b.start) // n) + 1 for b, n in zip(box, steps, strict=True)]
    index = np.stack(np.meshgrid(*[np.arange(c) for c in counts], indexing="ij")).reshape(3, -1).astype(float)
    voxels = index * np.array(steps)[:, None] + np.array([b.start for b in box])[:, None]
    matrix = to_voxel @ np.linalg.inv(pose.matrix) @ volume.affine
    there = matrix[:3, :3] @ voxels + matrix[:3, 3:]
    inside = brain[box]
    found = []
    for tissue in maps:
        coarse = ndimage.map_coordinates(tissue, there, order=1, mode="constant").reshape(counts)
        for axis, part in enumerate(box):
            length = part.stop - part.start
            coarse = np.take(stretch(coarse, axis, length, steps[axis]), np.arange(length), axis)
        found.append(coarse[inside])
    fluid = np.clip(1 - found[0] - found[1], 0, 1)
    joined = np.stack([fluid, *found]).astype(np.float32)
    laid: NDArray[np.float32] = joined / joined.sum(axis=0)
    return laid


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    where = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    x, y, z = (slice(int(w[0]), int(w[-1]) + 1) for w in where)
    return x, y, z


def segment(volume: Volume, corrected: Image, brain: Mask, pose: Pose) -> Tissue | Reason:
    """Tissue probabilities of the brain, or why there are none.

    Parameters
    ----------
    corrected
        The volume without its bias field.

    Notes
    -----
    Expectation maximisation as in Ashburner and Friston 2005 (doi:10.1016/j.neuroimage.2005.02.018), without warping
    and without a Markov field: neighbours do not vote, so that noise stays in the measures. Deterministic: every n-th
    voxel is fitted, all are classified.
    """
    values = corrected[brain]
    if values.size < MINIMUM_VOXELS:
        return Reason("too_little_brain", "There is too little brain in the image for tissue classes")
    low, high = np.percentile(values[:: max(1, values.size // SAMPLE)], TRIM_PERCENT)
    if not high > low:
        return Reason("no_contrast", "The brain has the same intensity everywhere")
    prior = priors(volume, brain, pose)
    mixing = (1 - PRIOR_FLOOR) * prior + np.float32(PRIOR_FLOOR / 3)
    every = max(1, values.size // SAMPLE)
    sample, weight = values[::every].astype(np.float64), mixing[:, ::every].astype(np.float64)
    kept = (sample >= low) & (sample <= high)
    fitted = _fit(sample[kept], weight[:, kept])
    if fitted is None:
        return Reason("classes_empty", "The brain does not separate into fluid, grey and white matter")
    scale, means, deviations = fitted
    shares = _posteriors(values, mixing * scale[:, None].astype(np.float32), means, deviations)
    return Tissue(np.round(shares, DECIMALS), prior, means, deviations)


def _fit(
    values: NDArray[np.float64], mixing: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Scale of the mixing proportions, means and deviations of the three classes; None when a class runs empty.

    Grey and white matter share one deviation.
    """
    shares = mixing**2 / (mixing**2).sum(axis=0)
    scale = np.ones(3)
    smallest = 0.02 * float(values.std()) + 1e-9
    means, deviations = np.zeros(3), np.ones(3)
    for _ in range(ITERATIONS):
        mass = shares.sum(axis=1)
        if mass.min() < 0.01 * values.size:
            return None
        means = shares @ values / mass
        variances = np.maximum((shares * (values - means[:, None]) ** 2).sum(axis=1) / mass, smallest**2)
        # Left alone, grey matter's Gaussian, wide by partial volume, takes white matter's dark half on MPRAGE.
        variances[1:] = (mass[1:] @ variances[1:]) / mass[1:].sum()
        deviations = np.sqrt(variances)
        expected = (mixing / (mixing * scale[:, None]).sum(axis=0)).sum(axis=1)
        scale = mass / expected
        shares = _posteriors(values, mixing * scale[:, None], means, deviations)
    return scale, means, deviations


def _posteriors(
    values: np.ndarray, mixing: np.ndarray, means: NDArray[np.float64], deviations: NDArray[np.float64]
) -> np.ndarray:
    shares = np.empty_like(mixing)
    for number in range(3):
        distance = (values - values.dtype.type(means[number])) / values.dtype.type(deviations[number])
        shares[number] = mixing[number] / mixing.dtype.type(deviations[number]) * np.exp(-0.5 * distance * distance)
    total = shares.sum(axis=0)
    # Far from every class all densities are zero: the mixing proportions decide there.
    lost = total < 1e-30
    shares[:, lost] = mixing[:, lost]
    total[lost] = mixing[:, lost].sum(axis=0)
    shares /= total
    return shares


def why_not_valid(tissue: Tissue, contrast: str) -> Reason | None:
    """Why measures of these classes would mean nothing, or None: the classes overlap or stand in another order."""
    expected = [NAMES.index(name) for name in ORDER[contrast]]
    levels = [tissue.means[number] for number in expected]
    if tissue.separation < LEAST_SEPARATION:
        text = f"Grey and white matter overlap too much on this {contrast} for tissue measures"
        return Reason("contrast_too_low", text)
    if levels != sorted(levels):
        text = f"Fluid, grey and white matter are not as dark and bright as on a {contrast}"
        return Reason("classes_out_of_order", text)
    return None


def why_no_tissue(contrast: str, is_derived: bool, outside_share: float, pose: Pose | None) -> Reason | None:
    """Why there are no tissue classes to be sought in this image, or None."""
    if contrast not in ORDER:
        return Reason("contrast_unknown", f"There are no tissue measures for the contrast {contrast}")
    if is_derived:
        return Reason("derived_image", "A derived image's noise is not the scanner's")
    if outside_share < STRIPPED_SHARE:
        text = "The image shows a brain without its skull: it was processed before it was sent"
        return Reason("skull_stripped", text)
    if pose is None:
        return NOT_ALIGNED
    return None
