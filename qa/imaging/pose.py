"""How the head lies: alignment to the MNI brain, offset from the isocentre, distance to the field of view's edges.

Here: geometry of the brain mask. Not here: the MNI brain and what an image looks like in it (`qa.imaging.atlas`),
limits (`thresholds.yaml`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from qa.imaging.answers import SIDE_NAMES, answer, unknown
from qa.imaging.atlas import GRID_MM, REACH_MM, Matrix, inner_look, mni, mni_grid, sample, signed_distance
from qa.imaging.types import Mask, Volume
from qa.model import Measure

STEPS = 40
SMALLEST_ML = 100
WHOLE_DICE = 0.92
"""A whole head fits at least so well; what fits worse may be a part of one."""
PART_MARGIN_MM = 3.0
PART_REACH_MM = (15.0, 40.0)
"""How far beyond an edge the centre of a cut brain is sought."""
HEAD_SCALE = 0.93
PART_SCALES = (0.82, 1.05)
"""Size of heads relative to the MNI brain: a part cannot tell its own."""
EDGE_MM = 2.0
"""Brain closer to an edge than this (or than one slice) counts as lying at it."""


@dataclass(frozen=True)
class Pose:
    """An affine from MNI to the scanner's millimetres, how well it fits, and the rotation in it."""

    matrix: Matrix
    dice: float
    symmetry: float
    structure: float
    scale: float
    pitch: float
    roll: float
    yaw: float


@dataclass(frozen=True)
class Coverage:
    """Per side: brain to the edge of the non-zero field of view (mm), and brain area at that edge (mm2)."""

    margin_mm: dict[str, float]
    cut_area_mm2: dict[str, float]
    frame: tuple[slice, ...]


def _coarse(volume: Volume, mask: Mask, frame: tuple[slice, ...] | None) -> tuple[NDArray[np.float64], Matrix]:
    """Signed distance to the mask's surface on a 4 mm grid with room around it, and that grid's affine.

    With a frame the mask goes on beyond it as it is at the frame's border, so that a cut is not taken for a surface.
    """
    where = np.argwhere(mask)
    low, high = where.min(axis=0), where.max(axis=0)
    steps = GRID_MM / volume.spacing
    room = int(np.ceil((2 if frame is None else 5) * REACH_MM / GRID_MM))
    counts = np.ceil((high - low + 1) / steps).astype(int) + 2 * room
    origin = low - room * steps
    small = np.ones(tuple(counts), bool)
    index = []
    for axis, (count, length) in enumerate(zip(counts, mask.shape, strict=True)):
        position = np.rint(origin[axis] + np.arange(count) * steps[axis]).astype(int)
        if frame is None:
            shape = [1, 1, 1]
            shape[axis] = -1
            small &= ((position >= 0) & (position < length)).reshape(shape)
            index.append(np.clip(position, 0, length - 1))
        else:
            index.append(np.clip(position, frame[axis].start, frame[axis].stop - 1))
    small &= mask[np.ix_(*index)]
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * steps
    affine[:3, 3] = volume.affine[:3, :3] @ origin + volume.affine[:3, 3]
    return signed_distance(small, np.full(3, GRID_MM)), affine


@dataclass(frozen=True)
class _Problem:
    """What an alignment minimises: MNI points (about MNI's centre) and their distances, the brain's distance field."""

    arms: NDArray[np.float64]
    target: NDArray[np.float64]
    distance: NDArray[np.float64]
    to_grid: NDArray[np.floating[Any]]
    to_voxel: NDArray[np.floating[Any]]
    frame: tuple[slice, ...] | None

    @cached_property
    def slopes(self) -> list[NDArray[np.float64]]:
        """The distance field's gradient along each axis of its grid."""
        return [np.gradient(self.distance, axis=axis) for axis in range(3)]

    def step(self, linear: Matrix, shift: NDArray[np.float64], is_affine: bool) -> NDArray[np.float64] | None:
        """One Gauss-Newton update: rotation, scale and shift, or nine matrix elements and shift."""
        moved = self.arms @ linear.T + shift
        grid = (moved @ self.to_grid[:3, :3].T + self.to_grid[:3, 3]).T
        here = ndimage.map_coordinates(self.distance, grid, order=1, mode="nearest")
        error = here - self.target * np.cbrt(np.linalg.det(linear))
        sampled = [ndimage.map_coordinates(slope, grid, order=1, mode="nearest") for slope in self.slopes]
        gradient = np.stack(sampled, axis=1)
        gradient = gradient @ self.to_grid[:3, :3]
        weight = 1 / np.maximum(np.abs(error), 3.0)
        if self.frame is not None:
            weight = weight * _within(moved @ self.to_voxel[:3, :3].T + self.to_voxel[:3, 3], self.frame)
        if is_affine:
            product = (gradient[:, :, None] * self.arms[:, None, :]).reshape(len(self.arms), 9)
            basis = np.concatenate([product, gradient], axis=1)
        else:
            rotated = self.arms @ linear.T
            radial = (gradient * rotated).sum(1)[:, None]
            basis = np.concatenate([np.cross(rotated, gradient), radial, gradient], axis=1)
        normal = (basis * weight[:, None]).T @ basis
        normal += np.diag(np.diag(normal)) * 1e-4 + 1e-9 * np.eye(len(normal))
        update: NDArray[np.float64] = -np.linalg.solve(normal, basis.T @ (weight * error))
        return update if bool(np.all(np.isfinite(update))) else None

    def solve(
        self, linear: Matrix, shift: NDArray[np.float64], affine_from: int, scales: tuple[float, float]
    ) -> tuple[Matrix, NDArray[np.float64]] | None:
        """Rotation, scale and shift first, then (from a step on) a full affine; None when it runs away."""
        for number in range(STEPS):
            is_affine = number >= affine_from
            update = self.step(linear, shift, is_affine)
            if update is None:
                return None
            if is_affine:
                linear = linear + update[:9].reshape(3, 3)
            else:
                linear = (1 + np.clip(update[3], -0.1, 0.1)) * _rotation(update[:3]) @ linear
                scale = float(np.cbrt(np.linalg.det(linear)))
                linear = linear * (np.clip(scale, *scales) / scale)
            shift = shift + update[-3:]
            if not 0.05 < np.linalg.det(linear) < 20:
                return None
        return linear, shift


def _within(voxels: NDArray[np.float64], frame: tuple[slice, ...]) -> NDArray[np.bool_]:
    inside = np.ones(len(voxels), bool)
    for axis, part in enumerate(frame):
        inside &= (voxels[:, axis] >= part.start) & (voxels[:, axis] <= part.stop - 1)
    return inside


def align(volume: Volume, brain: Mask, coverage: Coverage | None = None) -> Pose | None:
    """Affine from the MNI brain to this brain, by Gauss-Newton on the distances to the two brains' surfaces.

    Independent of contrast, and the same on every run. None for a mask too small to align. A brain that does not fit
    and lies at an edge of the field of view (`coverage`) is tried again as a part: only what is inside the field of
    view counts, the head's size is held to that of heads, and the centre is sought beyond each edge.

    Notes
    -----
    Angles are those of the rotation nearest to the affine (polar decomposition), in degrees: pitch > 0 nose up,
    roll > 0 right ear down, yaw > 0 nose to the left.
    """
    if brain.sum() * volume.voxel_ml < SMALLEST_ML:
        return None
    _, _, mni_mask, mni_affine = mni()
    ratio = brain.sum() * volume.voxel_ml * 1000 / (mni_mask.sum() * abs(np.linalg.det(mni_affine[:3, :3])))
    start = np.eye(3) * np.cbrt(ratio)
    centre = _centroid(brain, volume.affine)
    best = _solve(volume, brain, None, start, centre)
    if coverage is None or (best is not None and best.dice >= WHOLE_DICE):
        return best
    for number, side in enumerate(SIDE_NAMES):
        if coverage.margin_mm[side] > PART_MARGIN_MM:
            continue
        outward = volume.affine[:3, number // 2] / volume.spacing[number // 2] * (1 if number % 2 else -1)
        for reach in PART_REACH_MM:
            part = _solve(volume, brain, coverage.frame, np.eye(3) * HEAD_SCALE, centre + reach * outward)
            if part is not None and (best is None or part.structure > best.structure):
                best = part
    return best


def _solve(
    volume: Volume, brain: Mask, frame: tuple[slice, ...] | None, linear: Matrix, centre: NDArray[np.float64]
) -> Pose | None:
    points, target, mni_mask, mni_affine = mni()
    distance, affine = _coarse(volume, brain, frame)
    centre_mni = _centroid(mni_mask, mni_affine)
    problem = _Problem(
        points - centre_mni, target, distance, np.linalg.inv(affine), np.linalg.inv(volume.affine), frame
    )
    scales = (0.2, 3.0) if frame is None else PART_SCALES
    found = problem.solve(linear, centre, STEPS // 2 if frame is None else STEPS, scales)
    if found is None:
        return None
    linear, shift = found
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = shift - linear @ centre_mni
    symmetry, structure = inner_look(volume, matrix)
    scale = float(np.cbrt(np.linalg.det(linear)))
    return Pose(matrix, _dice(volume, brain, matrix, frame), symmetry, structure, scale, *_angles(linear))


def _centroid(mask: Mask, affine: Matrix) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = affine[:3, :3] @ np.array(ndimage.center_of_mass(mask)) + affine[:3, 3]
    return centre


def _rotation(vector: NDArray[np.float64]) -> Matrix:
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: Matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn


def _angles(linear: Matrix) -> tuple[float, float, float]:
    left, _, right = np.linalg.svd(linear)
    turn = left @ right
    pitch = np.degrees(np.arctan2(turn[2, 1], turn[2, 2]))
    roll = np.degrees(np.arcsin(np.clip(-turn[2, 0], -1, 1)))
    yaw = np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))
    return float(pitch), float(roll), float(yaw)


def _dice(volume: Volume, brain: Mask, matrix: Matrix, frame: tuple[slice, ...] | None) -> float:
    world, mask = mni_grid()
    moved = world @ matrix[:3, :3].T + matrix[:3, 3]
    found = sample(brain, volume, moved).astype(bool)
    expected = mask.ravel()
    if frame is not None:
        back = np.linalg.inv(volume.affine)
        seen = _within(moved @ back[:3, :3].T + back[:3, 3], frame)
        found, expected = found[seen], expected[seen]
    return float(2 * (found & expected).sum() / max(1, found.sum() + expected.sum()))


def coverage(volume: Volume, brain: Mask) -> Coverage:
    """How far the brain is from the edges of what was imaged.

    Scanners leave outermost rows at zero (distortion correction), so the edge is the outermost plane in which more than
    0.2 % of the voxels differ from zero.
    """
    margin, area = {}, {}
    frame = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero((volume.data != 0).mean(axis=others) > 0.002)
        planes = np.flatnonzero(brain.any(axis=others))
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, volume.data.shape[axis] - 1)
        frame.append(slice(first, last + 1))
        pixel = float(np.prod([volume.spacing[a] for a in others]))
        depth = max(1, round(EDGE_MM / float(volume.spacing[axis])))
        profile = brain.sum(axis=others) * pixel
        low, high = SIDE_NAMES[2 * axis], SIDE_NAMES[2 * axis + 1]
        margin[low] = float((planes[0] - first) * volume.spacing[axis])
        margin[high] = float((last - planes[-1]) * volume.spacing[axis])
        area[low] = float(profile[: first + depth].max())
        area[high] = float(profile[last + 1 - depth :].max())
    return Coverage(margin, area, tuple(frame))


def largest_section(volume: Volume, brain: Mask) -> float:
    """Largest area of the brain mask in one plane across an axis, in mm2."""
    areas = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        areas.append(float(brain.sum(axis=others).max()) * float(np.prod([volume.spacing[a] for a in others])))
    return max(areas)


def coverage_measures(found: Coverage, mask_sha256: str) -> list[Measure]:
    result = [answer(f"margin_{s}_mm", max(0.0, v), mask_sha256) for s, v in found.margin_mm.items()]
    return result + [answer(f"cut_area_{s}_mm2", v, mask_sha256) for s, v in found.cut_area_mm2.items()]


def pose_measures(pose: Pose | None, is_cut: bool, mask_sha256: str) -> list[Measure]:
    """Rotation, fit and symmetry. A brain cut by the field of view has no trustworthy rotation."""
    if pose is None:
        names = (
            "mni_dice",
            "mni_symmetry",
            "mni_structure",
            "mni_scale",
            "pitch_deg",
            "roll_deg",
            "yaw_deg",
        )
        return [unknown(n, "not_aligned", "There is no brain large enough to align", mask_sha256) for n in names]
    result = [
        answer("mni_dice", pose.dice, mask_sha256),
        answer("mni_symmetry", pose.symmetry, mask_sha256),
        answer("mni_structure", pose.structure, mask_sha256),
        answer("mni_scale", pose.scale, mask_sha256),
    ]
    angles = {"pitch_deg": pose.pitch, "roll_deg": pose.roll, "yaw_deg": pose.yaw}
    if is_cut:
        text = "The field of view cuts the brain: the angle of a part is not the angle of the head"
        return result + [unknown(n, "brain_cut", text, mask_sha256) for n in angles]
    return result + [answer(n, v, mask_sha256) for n, v in angles.items()]


def offset_measures(
    volume: Volume,
    brain: Mask,
    is_known: bool | None,
    reason: str | None,
    mask_sha256: str,
) -> list[Measure]:
    """Brain centre in the scanner's coordinates, when their origin is known to be the isocentre."""
    names = [f"offset_{axis}_mm" for axis in "xyz"]
    if not is_known:
        text = reason or "The header does not say where the magnet's isocentre is"
        return [unknown(n, "isocentre_unknown", text, mask_sha256) for n in names]
    centre = _centroid(brain, volume.affine)
    return [answer(n, float(c), mask_sha256) for n, c in zip(names, centre, strict=True)]
