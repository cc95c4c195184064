"""Scores for artefacts on one magnitude volume: noise, bias field, ghosts, motion.

Here: one score per artefact, each a pure function of image and masks. Not here: limits (`thresholds.yaml`).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from qa.imaging.air import air_problem
from qa.imaging.answers import all_unknown, answer, unknown
from qa.imaging.head import Surroundings
from qa.imaging.mask import eroded
from qa.imaging.types import Image, Mask, Volume
from qa.model import Measure, Reason

MAD_TO_SIGMA = 1.4826
RAYLEIGH_MEDIAN = 1.1774
"""Median of the magnitude of pure complex noise, in units of its standard deviation (Gudbjartsson 1995)."""
MINIMUM_VOXELS = 500
AXES = ("left-right", "front-back", "head-foot")
SAMPLE = 200_000


def in_plane_axes(volume: Volume, dimension: str | None) -> tuple[int, ...]:
    """Axes that are encoded by gradients and can carry ghosts: the two of a slice, or all three of a 3D scan."""
    if dimension == "3D":
        return (0, 1, 2)
    if dimension == "2D" or volume.spacing.max() > 1.8 * volume.spacing.min():
        return tuple(a for a in range(3) if a != volume.slice_axis)
    return (0, 1, 2)


def wavelet_noise(volume: Volume, inner: Mask, axes: tuple[int, ...]) -> float:
    """Standard deviation of the noise in the brain from the finest diagonal Haar detail (Coupe 2010), else NaN."""
    detail = volume.data.astype(np.float32)
    region = inner
    for axis in axes:
        first = [slice(None)] * 3
        second = [slice(None)] * 3
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        detail = (detail[tuple(second)] - detail[tuple(first)]) / np.float32(np.sqrt(2))
        region = region[tuple(second)] & region[tuple(first)]
    values = detail[region]
    return float(np.median(np.abs(values)) * MAD_TO_SIGMA) if values.size >= MINIMUM_VOXELS else float("nan")


def noise_measures(
    volume: Volume,
    brain: Mask,
    around: Surroundings,
    axes: tuple[int, ...],
    mask_sha256: str,
) -> list[Measure]:
    """Noise as a share of the brain's level: by wavelets inside the brain, and by the air where it was not blanked."""
    level = float(np.median(volume.data[brain]))
    if level <= 0:
        text = "The brain's median intensity is not above zero"
        return [unknown(n, "no_signal", text, mask_sha256) for n in ("noise_pct", "air_noise_pct")]
    inner = eroded(brain)
    result = [answer("noise_pct", 100 * wavelet_noise(volume, inner, axes) / level, mask_sha256)]
    problem = air_problem(around)
    if problem is not None:
        return [
            *result,
            unknown("air_noise_pct", problem.code, problem.text, mask_sha256),
        ]
    air = np.median(volume.data[around.air])
    return [
        *result,
        answer("air_noise_pct", 100 * float(air) / RAYLEIGH_MEDIAN / level, mask_sha256),
    ]


def bias_measure(field: Image, brain: Mask, mask_sha256: str) -> Measure:
    """Coefficient of variation of the N4 field over the brain, in percent."""
    values = field[brain]
    return answer("bias_cv_pct", 100 * float(values.std() / values.mean()), mask_sha256)


def _field_of_view(volume: Volume) -> Mask:
    """Where the scanner wrote anything at all: planes that are zero from edge to edge are outside."""
    mask = np.ones(volume.data.shape, bool)
    for axis in range(3):
        used = (volume.data != 0).any(axis=tuple(a for a in range(3) if a != axis))
        shape = [1, 1, 1]
        shape[axis] = -1
        mask &= used.reshape(shape)
    return mask


def ghost_measure(
    volume: Volume,
    brain: Mask,
    around: Surroundings,
    axes: tuple[int, ...],
    mask_sha256: str,
) -> tuple[list[Measure], str | None]:
    """Excess signal where the head would appear when shifted by half the field of view along an axis; the worst axis.

    GSR (Giannelli 2010), here for every encoded axis because the phase axis is often not in the header, against air in
    the same axial planes. Beside it how much that signal looks like the head: a ghost does, smear by motion does not.
    """
    level = float(np.median(volume.data[brain])) if brain.any() else 0.0
    core = eroded(brain, 2)
    gap = ~eroded(np.pad(~around.head, 3, constant_values=True), 3)[3:-3, 3:-3, 3:-3]
    usable = _field_of_view(volume) & ~gap
    worst, name, likeness = float("nan"), None, 0.0
    for axis in axes:
        shift = volume.data.shape[axis] // 2
        ghost = np.roll(core, shift, axis) & usable
        still = usable & ~np.roll(gap, shift, axis) & ghost.any(axis=(0, 1), keepdims=True)
        if ghost.sum() < MINIMUM_VOXELS or still.sum() < MINIMUM_VOXELS or level <= 0:
            continue
        value = 100 * float(volume.data[ghost].mean() - volume.data[still].mean()) / level
        if not value <= worst:
            worst, name, likeness = value, AXES[axis], _likeness(volume.data, ghost, shift, axis)
    if name is None:
        reason = Reason("no_room", "The head fills the field of view: there is no room where a ghost would show")
        return all_unknown(("ghost_pct", "ghost_likeness"), reason, mask_sha256), None
    return [answer("ghost_pct", worst, mask_sha256), answer("ghost_likeness", likeness, mask_sha256)], name


def _likeness(data: Image, place: Mask, shift: int, axis: int) -> float:
    """Correlation of the local means in the ghost's place with those of the head, 0 where either is flat."""
    where = np.argwhere(place)
    box = tuple(
        slice(max(0, low - 1), high + 2) for low, high in zip(where.min(axis=0), where.max(axis=0), strict=True)
    )
    smooth = [ndimage.uniform_filter(image[box], 3) for image in (data, np.roll(data, shift, axis))]
    ghost, head = (image[place[box]] for image in smooth)
    if not ghost.std() > 0 or not head.std() > 0:
        return 0.0
    return float(np.corrcoef(ghost, head)[0, 1])


def motion_measures(
    volume: Volume,
    brain: Mask,
    around: Surroundings,
    axes: tuple[int, ...],
    mask_sha256: str,
) -> tuple[list[Measure], str | None]:
    """Two signs of motion: smear into the background along one axis (and which), and blurred or doubled edges.

    The smear compares air in line with the brain along an axis with the air elsewhere: motion between phase-encoding
    steps spreads signal along the phase axis only.
    """
    level = float(np.median(volume.data[brain]))
    smear, name = _smear(volume, brain, around, axes, level)
    if name is None:
        text = "There is no air beside the brain that was not blanked"
        first = unknown("motion_smear_pct", "no_air", text, mask_sha256)
    else:
        first = answer("motion_smear_pct", smear, mask_sha256)
    return [
        first,
        answer("gradient_entropy", _gradient_entropy(volume, brain, axes), mask_sha256),
    ], name


def _smear(
    volume: Volume,
    brain: Mask,
    around: Surroundings,
    axes: tuple[int, ...],
    level: float,
) -> tuple[float, str | None]:
    if air_problem(around) is not None or level <= 0:
        return float("nan"), None
    inline = {a: around.air & _shadow(brain, a) for a in axes}
    levels = {a: _mean(volume.data[m]) for a, m in inline.items() if m.sum() >= MINIMUM_VOXELS}
    union = np.zeros_like(brain)
    for mask in inline.values():
        union |= mask
    elsewhere = around.air & ~union
    if not levels or elsewhere.sum() < MINIMUM_VOXELS:
        return float("nan"), None
    axis = max(levels, key=lambda a: levels[a])
    return 100 * (levels[axis] - _mean(volume.data[elsewhere])) / level, AXES[axis]


def _shadow(brain: Mask, axis: int) -> Mask:
    """Every voxel in line with the brain along an axis."""
    shadow: Mask = np.broadcast_to(brain.any(axis=axis, keepdims=True), brain.shape)
    return shadow


def _mean(values: np.ndarray) -> float:
    """Mean without the brightest percent, which is fat or a tube and not smear."""
    limit = np.percentile(values[:: max(1, values.size // SAMPLE)], 99)
    return float(values[values <= limit].mean())


def _gradient_entropy(volume: Volume, brain: Mask, axes: tuple[int, ...]) -> float:
    inner = eroded(brain)
    total = np.zeros(int(inner.sum()), np.float32)
    for axis in axes:
        total += np.gradient(volume.data, axis=axis)[inner] ** 2
    strength = np.sqrt(total)
    if strength.size < MINIMUM_VOXELS or strength.max() <= 0:
        return float("nan")
    share = strength.astype(np.float64) / strength.sum()
    share = share[share > 0]
    return float(-(share * np.log(share)).sum() / np.log(share.size))
