"""Where head and air are, and how the image varies over the brain.

Here: head mask, air mask, the N4 field. Not here: brain (`qa.imaging.mask`) and tissue (`qa.imaging.tissue`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from qa.imaging.mask import largest_component
from qa.imaging.types import Image, Mask, Volume

COARSE_MM = 2.0
HEAD_SHARE = 0.12
"""Head is what is brighter than the background by this share of the way to the brain: fat and muscle, not noise."""
HEAD_REACH_MM = 25.0
"""Skin lies 10 to 20 mm from the brain where there is no face and no neck; more is no longer a head."""
AIR_GAP_MM = 6.0
N4_GRID_MM = 6.0
"""The field is smoother: at 4 mm its variation over the brain is the same to 0.7 per cent, at three times the cost."""
N4_ITERATIONS = (40, 30, 20)


@dataclass(frozen=True)
class Surroundings:
    """Masks around the brain.

    `head` is filled; `air` is outside it by a gap; `zero_share` of the outside is exactly zero (the scanner or a tool
    blanked it); `outside_share` of the head's tissue lies outside the brain. `distance_mm` from the head is known on
    every `thinning`-th voxel only.
    """

    head: Mask
    air: Mask
    zero_share: float
    outside_share: float
    distance_mm: Image
    thinning: tuple[slice, ...]


def strides(volume: Volume, target_mm: float) -> tuple[slice, ...]:
    """Slices that thin a volume to about `target_mm` without interpolation."""
    return tuple(slice(None, None, max(1, round(target_mm / s))) for s in volume.spacing)


def thinned(data: Image, thinning: tuple[slice, ...]) -> Image:
    """A volume thinned to its local means, one axis after the other so that each has less left to do."""
    for axis in (2, 1, 0):  # the axis whose voxels lie side by side first
        index = [slice(None)] * 3
        index[axis] = thinning[axis]
        data = ndimage.uniform_filter1d(data, thinning[axis].step, axis)[tuple(index)]
    return data


def enlarge(small: Mask, shape: tuple[int, ...], thinning: tuple[slice, ...]) -> Mask:
    """A thinned mask back at full size, nearest voxel."""
    index = [
        np.minimum((np.arange(n) + t.step // 2) // t.step, m - 1)
        for n, t, m in zip(shape, thinning, small.shape, strict=True)
    ]
    full: Mask = small[np.ix_(*index)]
    return full


def surroundings(volume: Volume, brain: Mask) -> Surroundings:
    """Head and air of a volume of any contrast.

    The threshold lies between the smoothed background's level and the brain's median, so that Rician noise does not
    count as head.
    """
    thinning = strides(volume, COARSE_MM)
    spacing = volume.spacing * [t.step for t in thinning]
    coarse = thinned(volume.data, thinning)
    coarse = ndimage.gaussian_filter(coarse, 1.0 / spacing)
    brain_coarse = brain[thinning]
    level = float(np.median(coarse[brain_coarse])) if brain_coarse.any() else float(np.percentile(coarse, 90))
    rest = coarse[~ndimage.binary_dilation(brain_coarse, iterations=8)] if brain_coarse.any() else coarse
    floor = float(np.percentile(rest, 20)) if rest.size else 0.0
    head = coarse > floor + HEAD_SHARE * (level - floor)
    radius = max(1, round(3 / float(spacing.mean())))
    head = ndimage.binary_opening(head | brain_coarse, iterations=1)
    head = largest_component(head | brain_coarse)
    padded = np.pad(head, radius + 1, mode="edge")
    closed = ndimage.binary_closing(padded, iterations=radius)
    inner = tuple(slice(radius + 1, -radius - 1) for _ in range(3))
    head = ndimage.binary_fill_holes(closed[inner])
    for axis in range(3):
        head = _fill_planes(head, axis)
    head &= ~_beyond_a_head(brain_coarse, spacing)
    distance = ndimage.distance_transform_edt(~head, sampling=spacing)
    outside = enlarge(distance > AIR_GAP_MM, volume.data.shape, thinning)
    zero = volume.data == 0
    zero_share = float(zero[outside].mean()) if outside.any() else 1.0
    tissue = coarse > floor + HEAD_SHARE * (level - floor)
    beyond = tissue & head & ~ndimage.binary_dilation(brain_coarse, iterations=max(1, round(4 / float(spacing.mean()))))
    share = float(beyond.sum() / max(1, (tissue & head).sum()))
    head = enlarge(head, volume.data.shape, thinning)
    return Surroundings(head, outside & ~zero, zero_share, share, distance.astype(np.float32), thinning)


def _fill_planes(mask: Mask, axis: int) -> Mask:
    """Fill the holes of every plane across an axis: what does not connect to the plane's border within the plane."""
    structure = np.zeros((3, 3, 3), bool)
    structure[1, 1, :] = structure[1, :, 1] = structure[:, 1, 1] = True
    across = [slice(None)] * 3
    across[axis] = slice(0, 1)
    structure[tuple(across)] = False
    across[axis] = slice(2, 3)
    structure[tuple(across)] = False
    labels, count = ndimage.label(~mask, structure=structure)
    is_open = np.zeros(count + 1, bool)
    for other in range(3):
        if other != axis:
            for end in (0, -1):
                is_open[np.take(labels, end, other)] = True
    is_open[0] = False
    filled: Mask = ~is_open[labels]
    return filled


def _beyond_a_head(brain: Mask, spacing: np.ndarray) -> Mask:
    """Where no head can be, above the brain's middle: there its skin is near, and what is further off is a ghost.

    Without this a strong ghost, which is as bright as the head, would count as head and be seen by no measure. Face,
    ears and neck lie below the brain's middle, nodding heads' included.
    """
    if not brain.any():
        return np.zeros_like(brain)
    beyond: Mask = ndimage.distance_transform_edt(~brain, sampling=spacing) > HEAD_REACH_MM
    middle = round(float(np.flatnonzero(brain.any(axis=(0, 1))).mean()))
    beyond[:, :, :middle] = False
    return beyond


def bias_field(volume: Volume, brain: Mask) -> Image:
    """The multiplicative intensity field of the scan, mean 1 inside the brain (N4, Tustison 2010).

    Fitted on a grid of about 6 mm inside the brain's box and evaluated at full size; outside the box the value at its
    border goes on. One thread, so that it repeats exactly.
    """
    thinning = strides(volume, N4_GRID_MM)
    steps = [t.step for t in thinning]
    where = [np.flatnonzero(brain[thinning].any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if any(w.size < 2 for w in where):
        return np.ones(volume.data.shape, np.float32)
    box = tuple(slice(max(0, int(w[0]) - 1), int(w[-1]) + 2) for w in where)
    small = thinned(volume.data, thinning)[box]
    spacing = [float(s * n) for s, n in zip(volume.spacing, steps, strict=True)]
    log_field = _n4(
        np.maximum(small, 0).astype(np.float32) + np.float32(1e-3),
        brain[thinning][box],
        spacing,
    )
    thin_shape = brain[thinning].shape
    room = [(b.start, n - b.start - size) for b, n, size in zip(box, thin_shape, log_field.shape, strict=True)]
    full = np.pad(log_field, room, mode="edge").astype(np.float32)
    for axis, (length, step) in enumerate(zip(volume.data.shape, steps, strict=True)):
        full = stretch(full, axis, length, step)
    field: Image = np.exp(full, dtype=np.float32)
    return field / np.float32(field[brain].mean())


def _n4(image: Image, region: Mask, spacing: list[float]) -> np.ndarray:
    """Logarithm of N4's field on the image's grid."""
    sitk: Any = importlib.import_module("SimpleITK")  # three seconds, and only this function wants it
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    pictures = [sitk.GetImageFromArray(np.ascontiguousarray(a.T)) for a in (image, region.astype(np.uint8))]
    for picture in pictures:
        picture.SetSpacing(spacing)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    n4.Execute(*pictures)
    field: np.ndarray = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(pictures[0])).T
    return field


def stretch(values: np.ndarray, axis: int, length: int, step: int) -> np.ndarray:
    """Linear interpolation along one axis from every `step`-th voxel to every voxel."""
    if step == 1:
        return values
    position = np.minimum(np.arange(length) / step, values.shape[axis] - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = length
    weight = (position - low).reshape(shape).astype(np.float32)
    first = np.take(values, low, axis).astype(np.float32)
    mixed: np.ndarray = first + weight * (np.take(values, high, axis).astype(np.float32) - first)
    return mixed
