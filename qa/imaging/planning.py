"""How the scan was planned: the tilt of its slices, what the field of view holds of vertex, cerebellum and upper cord.

Here: geometry of the alignment and of the field of view. Not here: how the head lies in the scanner
(`qa.imaging.pose`).
"""

from __future__ import annotations

import numpy as np

from qa.imaging.answers import all_unknown, answer, unknown
from qa.imaging.atlas import Matrix
from qa.imaging.pose import Coverage, Pose
from qa.imaging.tissue import NOT_ALIGNED
from qa.imaging.types import Volume
from qa.model import Measure

GENU_MM, SPLENIUM_MM = (0.0, 22.0, -3.0), (0.0, -38.0, 7.0)
"""Lowest points of the corpus callosum, front and back, in the template's white-matter map."""
LANDMARKS_MM = {
    "vertex_room_mm": ((0.0, -30.0, 80.0),),
    "cerebellum_room_mm": ((-25.0, -50.0, -62.0), (25.0, -50.0, -62.0)),
    "cord_room_mm": ((0.0, -50.0, -95.0),),
}
AXIAL_COSINE = 0.7
"""Slices whose normal is further than 45 degrees from head-foot are sagittal or coronal."""
SCALES = ("mni_scale_x", "mni_scale_y", "mni_scale_z", "mni_anisotropy")
CORRECTIONS = {"DIS3D": 3.0, "DIS2D": 2.0, "ND": 0.0}


def slice_tilt(volume: Volume, pose: Pose | None, is_cut: bool, mask_sha256: str) -> Measure:
    """Angle of axial slices to the subcallosal plane; positive where the front of the slice lies too high."""
    if pose is None:
        return unknown("slice_tilt_deg", NOT_ALIGNED.code, NOT_ALIGNED.text, mask_sha256)
    if is_cut:
        text = "The field of view cuts the brain: the angle to a part is not the angle to the head"
        return unknown("slice_tilt_deg", "brain_cut", text, mask_sha256)
    if volume.slice_axis != 2 or volume.spacing.max() < 1.2 * volume.spacing.min():
        text = "The image has no axial slices to judge: it is sagittal, coronal or isotropic"
        return unknown("slice_tilt_deg", "not_axial", text, mask_sha256)
    line = pose.matrix[:3, :3] @ (np.array(GENU_MM) - SPLENIUM_MM)
    front = volume.affine[:3, 1] / volume.spacing[1]
    angles = [np.degrees(np.arctan2(vector[2], vector[1])) for vector in (front, line)]
    return answer("slice_tilt_deg", float(angles[0] - angles[1]), mask_sha256)


def room(volume: Volume, pose: Pose | None, coverage: Coverage, mask_sha256: str) -> list[Measure]:
    """Distance of the template's landmarks to the nearest edge of the field of view, negative outside."""
    if pose is None:
        return all_unknown(LANDMARKS_MM, NOT_ALIGNED, mask_sha256)
    to_voxel = np.linalg.inv(volume.affine) @ pose.matrix
    low = np.array([part.start for part in coverage.frame]) - 0.5
    high = np.array([part.stop for part in coverage.frame]) - 0.5
    result = []
    for name, points in LANDMARKS_MM.items():
        voxels = np.array([(to_voxel @ (*point, 1.0))[:3] for point in points])
        least = np.minimum(voxels - low, high - voxels) * volume.spacing
        result.append(answer(name, float(least.min()), mask_sha256))
    return result


def stretch_measures(pose: Pose | None, mask_sha256: str) -> list[Measure]:
    """Size of the brain against the template along its three axes, and how unequal these are."""
    if pose is None:
        return all_unknown(SCALES, NOT_ALIGNED, mask_sha256)
    scales = axis_scales(pose.matrix)
    values = (*scales, float(scales.max() / scales.min()))
    return [answer(name, float(value), mask_sha256) for name, value in zip(SCALES, values, strict=True)]


def axis_scales(matrix: Matrix) -> np.ndarray:
    """Stretch of an affine along left-right, front-back and head-foot of the head (right polar decomposition)."""
    _, sizes, right = np.linalg.svd(matrix[:3, :3])
    scales: np.ndarray = np.diag(right.T @ np.diag(sizes) @ right)
    return scales


def gradient_correction(image_type: str | None, mask_sha256: str) -> Measure:
    """In how many dimensions the vendor corrected gradient distortion, where its ImageType says so."""
    parts = set((image_type or "").split("\\"))
    for word, dimensions in CORRECTIONS.items():
        if word in parts:
            return answer("gradient_correction_dims", dimensions, mask_sha256)
    text = "The header does not say whether gradient distortion was corrected"
    return unknown("gradient_correction_dims", "not_in_header", text, mask_sha256)
