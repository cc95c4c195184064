"""Scores for artefacts that need more than air and edges: wrap, spikes, zippers, drop-outs, blur, defacing.

Here: one score per artefact, each a pure function of image, masks and alignment. Not here: noise, bias, ghosts and
motion (`qa.imaging.artefacts`), probabilities (`qa.imaging.likely`), limits (`thresholds.yaml`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from qa.imaging import atlas
from qa.imaging.air import air_problem
from qa.imaging.answers import answer, unknown
from qa.imaging.head import Surroundings
from qa.imaging.mask import eroded
from qa.imaging.pose import Pose
from qa.imaging.tissue import NOT_ALIGNED
from qa.imaging.types import Image, Mask, Volume
from qa.model import Measure

MINIMUM_VOXELS = 500
TISSUE_SHARE = 0.15
SEAM_SHARE = 0.3
"""Tissue is brighter than this share of the brain's median."""
SEAM_VOXELS = 30
SPIKE_BOX, SPIKE_BLOT = 7, 3
"""Neighbours are the box without the blot around the point, into which interpolation spreads it."""
SPIKE_CENTRE = 6
"""Points of k-space this near to its centre, or to two of its axes, belong to the head and its cut neck."""
ZIPPER_WINDOW = 9
ZIPPER_LEAST_VOXELS = 60
DROPOUT_SMOOTH_VOXELS = 1.25
DROPOUT_TISSUE = 0.85
"""Fluid differs from side to side: only where the template has tissue is a loss one of signal."""
EDGE_RANGE_PERCENT, EDGE_SLOPE_PERCENT = (5, 95), 95
FACE_BOX_MM = ((-35.0, 35.0), (40.0, 90.0), (-80.0, -45.0))
"""In the template's millimetres: before and below the frontal pole."""
INSIDE_MM = 6.0


def wrap_score(volume: Volume, brain: Mask, around: Surroundings, axes: tuple[int, ...], mask_sha256: str) -> Measure:
    """Tissue at both opposite edges that goes on from one to the other, as a share of the head's section (percent)."""
    level = float(np.median(volume.data[brain]))
    if level <= 0:
        return unknown("wrap_pct", "no_signal", "The brain's median intensity is not above zero", mask_sha256)
    worst = 0.0
    for axis in axes:
        used = np.flatnonzero(volume.data.any(axis=tuple(a for a in range(3) if a != axis)))
        if used.size < 8:
            continue
        first, second, last, before = (np.take(volume.data, used[place], axis) for place in (0, 1, -1, -2))
        both = (first > SEAM_SHARE * level) & (last > SEAM_SHARE * level)
        section = float(around.head.sum(axis=tuple(a for a in range(3) if a != axis)).max())
        if both.sum() < SEAM_VOXELS or section <= 0:
            continue
        # Across a fold the planes are as alike as any two neighbours; a cut brain and a cut neck are not.
        inner = (np.abs(first - second)[both].mean() + np.abs(last - before)[both].mean()) / 2
        seam = np.abs(first - last)[both].mean()
        worst = max(worst, 100 * float(both.sum()) / section * min(1.0, float(inner / max(seam, 1e-6))) ** 2)
    return answer("wrap_pct", worst, mask_sha256)


def spike_score(volume: Volume, axes: tuple[int, ...], mask_sha256: str) -> Measure:
    """Brightest point of k-space over the mean of its neighbours (Foxall 1999, here against neighbours)."""
    image = volume.data - volume.data.mean(dtype=np.float64).astype(np.float32)
    strength = np.abs(fft.rfftn(image, axes=axes, workers=1))
    boxes = [tuple(width if axis in axes else 1 for axis in range(3)) for width in (SPIKE_BOX, SPIKE_BLOT)]
    sums = [ndimage.uniform_filter(strength, box, mode="wrap") * np.prod(box, dtype=np.float32) for box in boxes]
    neighbours = (sums[0] - sums[1]) / np.float32(np.prod(boxes[0]) - np.prod(boxes[1]))
    ratio = strength / np.maximum(neighbours, np.float32(1e-6) * strength.max() + np.float32(1e-12))
    ratio[_head_of_k_space(strength.shape, volume.data.shape, axes)] = 0
    return answer("spike_ratio", float(ratio.max()), mask_sha256)


def _head_of_k_space(shape: tuple[int, ...], full: tuple[int, ...], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Points near the centre or near two of the encoded axes."""
    near = []
    for axis in axes:
        number = np.arange(shape[axis])
        distance = np.minimum(number, full[axis] - number)
        along = [1, 1, 1]
        along[axis] = -1
        near.append((distance <= SPIKE_CENTRE).reshape(along))
    count = np.zeros(shape, np.uint8)
    for part in near:
        count += part
    head: NDArray[np.bool_] = count >= max(1, len(axes) - 1)
    return head


def zipper_score(volume: Volume, brain: Mask, around: Surroundings, axes: tuple[int, ...], mask_sha256: str) -> Measure:
    """Excess of one plane's air over its neighbours', worst plane and axis, in percent of the brain's median."""
    problem = air_problem(around)
    level = float(np.median(volume.data[brain]))
    if problem is not None or level <= 0:
        code, text = (problem.code, problem.text) if problem else ("no_signal", "The brain has no signal")
        return unknown("zipper_pct", code, text, mask_sha256)
    air = np.where(around.air, volume.data, 0)
    worst = float("nan")
    for axis in axes:
        others = tuple(a for a in range(3) if a != axis)
        count = around.air.sum(axis=others)
        usable = count >= ZIPPER_LEAST_VOXELS
        if usable.sum() < ZIPPER_WINDOW:
            continue
        profile = (air.sum(axis=others, dtype=np.float64) / np.maximum(count, 1))[usable]
        excess = profile - ndimage.median_filter(profile, ZIPPER_WINDOW, mode="nearest")
        worst = float(np.nanmax([worst, 100 * excess.max() / level]))
    if np.isnan(worst):
        return unknown("zipper_pct", "no_air", "There is too little air around the head", mask_sha256)
    return answer("zipper_pct", worst, mask_sha256)


def dropout_score(volume: Volume, pose: Pose | None, corrected: Image, mask_sha256: str) -> Measure:
    """Largest regional loss of signal, in percent, against the mirrored side and against tissue with a smooth field."""
    if pose is None:
        return unknown("dropout_pct", NOT_ALIGNED.code, NOT_ALIGNED.text, mask_sha256)
    found = atlas.laid_out(volume, corrected, pose.matrix)
    if found is None:
        return unknown("dropout_pct", "too_little_brain", "Too little of the brain is in the image", mask_sha256)
    values, predicted, mirrored, inside = found
    deep = ndimage.binary_erosion(inside) & (atlas.tissue_grid() > DROPOUT_TISSUE)
    if not deep.any():
        return unknown("dropout_pct", "too_little_brain", "Too little of the brain is in the image", mask_sha256)
    here, expected, other = (_local_mean(image, inside) for image in (values, predicted, mirrored))
    loss = np.minimum(1 - here / np.maximum(expected, 1e-6), 1 - here / np.maximum(other, 1e-6))
    return answer("dropout_pct", 100 * float(np.percentile(loss[deep], 99.9)), mask_sha256)


def _local_mean(image: NDArray[np.float64], inside: Mask) -> NDArray[np.float64]:
    """Gaussian mean over the voxels inside."""
    blurred = ndimage.gaussian_filter(np.where(inside, image, 0), DROPOUT_SMOOTH_VOXELS)
    share = ndimage.gaussian_filter(inside.astype(float), DROPOUT_SMOOTH_VOXELS)
    mean: NDArray[np.float64] = blurred / np.maximum(share, 1e-6)
    return mean


def slice_drop_score(volume: Volume, brain: Mask, mask_sha256: str) -> Measure:
    """Largest loss of one slice's median brain signal against its neighbours, in percent."""
    axis = volume.slice_axis
    data, inside = np.moveaxis(volume.data, axis, 0), np.moveaxis(brain, axis, 0)
    areas = inside.sum(axis=(1, 2))
    chosen = np.flatnonzero(areas > 0.3 * areas.max())
    if chosen.size < 5:
        return unknown("slice_drop_pct", "too_few_slices", "Fewer than five slices hold much of the brain", mask_sha256)
    levels = np.array([np.median(data[number][inside[number]]) for number in chosen])
    usual = ndimage.median_filter(levels, 5, mode="nearest")
    return answer("slice_drop_pct", 100 * float((1 - levels / np.maximum(usual, 1e-6)).max()), mask_sha256)


def edge_width(volume: Volume, brain: Mask, axes: tuple[int, ...], mask_sha256: str) -> Measure:
    """Width of the brain's sharpest edges in voxels: its range of intensities over its steepest slopes."""
    inner = eroded(brain)
    if inner.sum() < MINIMUM_VOXELS:
        text = "There is too little brain to look for edges in"
        return unknown("edge_width", "too_little_brain", text, mask_sha256)
    slope = np.zeros(int(inner.sum()), np.float32)
    for axis in axes:
        slope += np.gradient(volume.data, axis=axis)[inner] ** 2
    low, high = np.percentile(volume.data[inner], EDGE_RANGE_PERCENT)
    steepest = float(np.sqrt(np.percentile(slope, EDGE_SLOPE_PERCENT)))
    return answer("edge_width", float(high - low) / steepest if steepest > 0 else float("nan"), mask_sha256)


def face_score(volume: Volume, brain: Mask, pose: Pose | None, mask_sha256: str) -> Measure:
    """Share of a box before and below the frontal pole that holds tissue, in percent."""
    if pose is None:
        return unknown("face_pct", NOT_ALIGNED.code, NOT_ALIGNED.text, mask_sha256)
    steps = [np.arange(low, high + 1, 3.0) for low, high in FACE_BOX_MM]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    to_voxel = np.linalg.inv(volume.affine) @ pose.matrix
    voxels = np.rint(points @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
    inside = np.all((voxels >= 0) & (voxels < volume.data.shape), axis=1)
    if inside.mean() < 0.5:
        return unknown("face_pct", "outside", "The face lies outside the field of view", mask_sha256)
    level = float(np.median(volume.data[brain]))
    values = volume.data[tuple(voxels[inside].T)]
    return answer("face_pct", 100 * float((values > TISSUE_SHARE * level).mean()), mask_sha256)


def missing_brain(volume: Volume, brain: Mask, pose: Pose | None, mask_sha256: str) -> Measure:
    """Volume deep inside the aligned MNI brain where the image is exactly zero (ml): taken away with the face."""
    if pose is None:
        return unknown("missing_brain_ml", NOT_ALIGNED.code, NOT_ALIGNED.text, mask_sha256)
    values, voxel_ml = atlas.deep_values(volume, pose.matrix, INSIDE_MM)
    return answer("missing_brain_ml", float((values == 0).sum()) * voxel_ml, mask_sha256)
