"""The air around the head: MRIQC's "hat" above nose and occiput, what is corrupt in it, and its two quality indices.

Here: hat, artefact mask and the mask of connected zeros as MRIQC 24.0.2 defines them, in less time. Not here: where the
head is (`qa.imaging.head`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from qa.imaging.head import Surroundings, enlarge
from qa.imaging.mask import eroded
from qa.imaging.pose import Pose
from qa.imaging.types import Image, Mask, Volume
from qa.model import Reason

GLABELLA_MM, INION_MM = (0.0, 90.0, -14.0), (0.0, -120.0, -14.0)
"""In the template's millimetres, as in MRIQC."""
ARTEFACT_SCORE = 10.0
NEAR_HEAD = 0.1
"""Air nearer to the head than this share of the largest distance belongs to skin and hair."""
MAD_TO_SIGMA = 1.4826
ZERO_LIMIT = 0.05
"""Above this share of exact zeros the air says nothing about noise: the background was blanked."""
MINIMUM_VOXELS = 200
QI2_VOXELS, QI2_LEAST_VOXELS, QI2_SEED, QI2_COILS = 20_000, 1_000, 1191935, 32
"""Seed and coil elements are MRIQC's; it takes up to 300,000 voxels, which changes the third digit."""
ROTATION_LEAST_VOXELS = 500


@dataclass(frozen=True)
class Air:
    """The hat without its corrupt voxels, and the corrupt ones."""

    clean: Mask
    artefact: Mask


def air_problem(around: Surroundings) -> Reason | None:
    """Why the air says nothing about noise, or None."""
    if around.zero_share > ZERO_LIMIT:
        text = f"{100 * around.zero_share:.0f} % of the background is exactly zero: it was blanked before it was sent"
        return Reason("background_blanked", text)
    if int(around.air.sum()) < MINIMUM_VOXELS:
        return Reason("no_air", "The head fills the field of view: there is no air to take the noise from")
    return None


def hat_problem(around: Surroundings, air: Air) -> Reason | None:
    """Why MRIQC's air measures have no answer, or None."""
    problem = air_problem(around)
    if problem is None and int(air.clean.sum()) < MINIMUM_VOXELS:
        return Reason("no_air", "There is no air above nose and occiput in the field of view")
    return problem


def hat(volume: Volume, around: Surroundings, pose: Pose) -> Mask:
    """Air above the plane through glabella and inion, where neither neck nor face throws artefacts."""
    back = np.linalg.inv(volume.affine) @ pose.matrix
    front, rear = (int(np.clip((back @ (*point, 1.0))[2], 0, None)) for point in (GLABELLA_MM, INION_MM))
    air = ~around.head
    air[:, :, :rear] = False
    air[:, air.shape[1] // 2 :, :front] = False
    return air


def air_of(volume: Volume, around: Surroundings, pose: Pose) -> Air:
    """The hat, divided into clean and corrupt air (Mortamet 2009)."""
    above = hat(volume, around, pose)
    far = around.distance_mm * above[around.thinning]
    near = enlarge(far < NEAR_HEAD * max(float(far.max()), 1e-6), above.shape, around.thinning)
    artefact = artefact_mask(volume.data, above, near)
    return Air(above & ~artefact, artefact)


def artefact_mask(image: Image, air: Mask, near: Mask) -> Mask:
    """Air voxels brighter than ten deviations, without specks; as `mriqc.interfaces.anatomical.artifact_mask`."""
    values = image[air]
    positive = values[values > 0]
    bright = np.zeros(image.shape, bool)
    if positive.size < 10:
        return bright
    spread = float(np.median(np.abs(positive - np.median(positive)))) * MAD_TO_SIGMA
    if not spread > 0:
        return bright
    bright[air] = values > ARTEFACT_SCORE * spread
    bright &= ~near
    return _opened(bright)


def _opened(mask: Mask) -> Mask:
    """Opening by the 6 neighbours, by shifts."""
    core = eroded(mask)
    grown = core.copy()
    for axis in range(3):
        along, grown_along = np.moveaxis(core, axis, 0), np.moveaxis(grown, axis, 0)
        grown_along[1:] |= along[:-1]
        grown_along[:-1] |= along[1:]
    return grown


def rotation_mask(image: Image) -> Mask:
    """Connected voxels without signal: what a rotation or a tool filled in; as MRIQC's `RotationMask`."""
    empty = image <= 0
    if empty.sum() < ROTATION_LEAST_VOXELS:
        return np.zeros(image.shape, bool)
    padded = np.pad(empty, 1, constant_values=True)
    opened = ndimage.binary_opening(padded, ndimage.generate_binary_structure(3, 2))
    labels, count = ndimage.label(opened)
    if count > 2:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        opened = np.isin(labels, np.argsort(sizes)[-2:])
    mask: Mask = opened[1:-1, 1:-1, 1:-1]
    return mask if mask.sum() >= ROTATION_LEAST_VOXELS else np.zeros(image.shape, bool)


def qi_2(values: NDArray[np.floating]) -> float | None:
    """Misfit of a chi-square distribution to the clean air's intensities; None when there is too little signal.

    MRIQC's `art_qi2` without its figure, its file in the working directory and its reseeding of numpy: the same voxels
    are drawn from a generator of its own.
    """
    from scipy.stats import chi2

    data = np.maximum(np.nan_to_num(values.astype(np.float64), posinf=0.0), 0)
    if (data > 0).sum() < QI2_LEAST_VOXELS:
        return None
    data = data * (100 / np.percentile(data, 99))
    chosen = data
    if len(data) >= QI2_VOXELS:
        chosen = np.random.RandomState(QI2_SEED).choice(data, size=QI2_VOXELS)
    grid = np.linspace(0.0, 110, 1000)
    density = _kernel_density(chosen, grid, bandwidth=4.0)
    tail = int(np.argmax(density[::-1] > density.max() * 0.5))
    degrees, location, scale = chi2.fit(chosen, QI2_COILS)
    fitted = chi2.pdf(grid, degrees, loc=location, scale=scale)
    return float(np.abs(density[-tail:] - fitted[-tail:]).mean())


def _kernel_density(values: NDArray[np.float64], grid: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    total = np.zeros_like(grid)
    for part in np.array_split(np.sort(values), max(1, values.size // 2000)):
        total += np.exp(-0.5 * ((grid[:, None] - part) / bandwidth) ** 2).sum(axis=1)
    density: NDArray[np.float64] = total / (values.size * bandwidth * np.sqrt(2 * np.pi))
    return density
