"""From one image file to its measures and its picture: the order of the steps.

Here: which measures an image gets, and which reason stands where it gets none. Not here: the formulas (the modules
beside this one), limits (`verdict`), the lake (`qa.images`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qa.imaging import air, artefacts, contrast, damage, head, iqm, likely, picture, planning, pose, tissue
from qa.imaging.answers import CATALOGUE, METHOD_VERSION, all_unknown, answer, unknown
from qa.imaging.mask import METHOD_VERSION as MASK_VERSION
from qa.imaging.mask import brain_mask
from qa.imaging.pose import Coverage, Pose
from qa.imaging.tissue import Tissue
from qa.imaging.types import Image, Mask, Volume
from qa.imaging.volume import load_volume
from qa.model import Measure, Reason

MEASURED = ("T1w", "T2w", "FLAIR", "PDw")
"""Contrasts with the whole set of measures."""
LOOKED_AT = ("bold", "dwi")
"""Contrasts of which only what the image shows is asked: a head or not."""
HEADER_FACTS = (
    "contrast", "acquisition_dimension", "is_derived", "is_isocentre_known", "isocentre_reason", "image_type",
)  # fmt: skip
"""Columns of the series that a measure depends on: part of the cache key."""
VERSION = f"{METHOD_VERSION}+{MASK_VERSION}"
CUT_AREA_MM2 = 100.0
"""More brain than this at an edge makes rotation untrustworthy; below, the brain stem goes on into the neck."""
CUT_AREA_INFERIOR_MM2 = 1000.0
"""About the brain stem's largest cross-section with a margin; a cut through the cerebellum is larger."""


@dataclass(frozen=True)
class ImageResult:
    """What was measured on one series, and its picture (PNG; empty when nothing was drawn)."""

    measures: list[Measure]
    picture: bytes
    ghost_axis: str | None = None
    motion_axis: str | None = None


def mask_hash(brain: Mask) -> str:
    """SHA-256 of a mask's voxels and shape: which mask a measure was taken in."""
    digest = hashlib.sha256(repr(brain.shape).encode())
    digest.update(np.packbits(brain).tobytes())
    return digest.hexdigest()


def cut_sides(found: Coverage) -> tuple[str, ...]:
    """Sides on which the field of view cuts the brain."""
    return tuple(
        side
        for side, area in found.cut_area_mm2.items()
        if area > (CUT_AREA_INFERIOR_MM2 if side == "inferior" else CUT_AREA_MM2)
    )


def nothing(code: str, text: str) -> ImageResult:
    """No measure at all, with one reason for all of them."""
    return ImageResult([unknown(name, code, text) for name in CATALOGUE], b"")


@dataclass(frozen=True)
class Subject:
    """What every measure of one head is taken from: the volume, its brain and all that was found around it."""

    volume: Volume
    brain: Mask
    contrast: str
    dimension: str | None
    mask_sha256: str
    coverage: Coverage
    pose: Pose | None
    around: head.Surroundings
    field: Image
    is_derived: bool

    @cached_property
    def corrected(self) -> Image:
        """The volume without its bias field."""
        without: Image = (self.volume.data / np.maximum(self.field, 0.05)).astype(np.float32, copy=False)
        return without

    @cached_property
    def axes(self) -> tuple[int, ...]:
        return artefacts.in_plane_axes(self.volume, self.dimension)

    @cached_property
    def is_stripped(self) -> bool:
        return self.around.outside_share < tissue.STRIPPED_SHARE

    @cached_property
    def tissue(self) -> Tissue | Reason:
        """Tissue classes, or why there are none."""
        reason = tissue.why_no_tissue(self.contrast, self.is_derived, self.around.outside_share, self.pose)
        if reason is not None or self.pose is None:
            return reason or tissue.NOT_ALIGNED
        return tissue.segment(self.volume, self.corrected, self.brain, self.pose)


def measure_image(path: Path, series: Mapping[str, Any], cache: Path) -> ImageResult:
    """Every measure of one series.

    Parameters
    ----------
    path
        NIfTI file.
    series
        A row of `raw_imaging__series`; columns that are missing or None are unknown.
    cache
        Folder of the converted networks and the mask's lock.

    Raises
    ------
    ImageUnreadable
        The file holds no volume.
    """
    contrast = series.get("contrast") or "unknown"
    if contrast not in MEASURED + LOOKED_AT:
        return nothing(
            "contrast_not_measured",
            f"Measures for the contrast {contrast} are not available yet",
        )
    volume = load_volume(path)
    return measure_volume(volume, brain_mask(volume.data, cache), series)


def measure_volume(volume: Volume, brain: Mask, series: Mapping[str, Any]) -> ImageResult:
    """Every measure of one volume whose brain is known; `series` as for `measure_image`."""
    contrast = series.get("contrast") or "unknown"
    sha = mask_hash(brain)
    found = pose.coverage(volume, brain) if brain.any() else None
    cut = cut_sides(found) if found is not None else ()
    where = pose.align(volume, brain, found)
    shape = [answer("brain_volume_ml", float(brain.sum()) * volume.voxel_ml, sha)]
    shape.append(answer("brain_section_mm2", pose.largest_section(volume, brain), sha))
    shape += pose.pose_measures(where, bool(cut), sha)
    if contrast in LOOKED_AT or found is None:
        code, text = ("no_brain", "No brain was found in the image")
        if contrast in LOOKED_AT:
            code, text = (
                "not_available_yet",
                "Measures for bold/dwi not available yet",
            )
        return _complete(shape, code, text, picture.mosaic(volume, brain, ()), sha)
    return _anatomical(look_at(volume, brain, series, found, where), cut, shape, series)


def look_at(volume: Volume, brain: Mask, series: Mapping[str, Any], coverage: Coverage, where: Pose | None) -> Subject:
    """Find head, air and bias field around a brain whose coverage and alignment are known."""
    return Subject(
        volume,
        brain,
        series.get("contrast") or "unknown",
        series.get("acquisition_dimension") or ("2D" if volume.spacing.max() > 2 else None),
        mask_hash(brain),
        coverage,
        where,
        head.surroundings(volume, brain),
        head.bias_field(volume, brain),
        bool(series.get("is_derived")),
    )


def _anatomical(subject: Subject, cut: tuple[str, ...], shape: list[Measure], series: Mapping[str, Any]) -> ImageResult:
    volume, brain, around, sha = subject.volume, subject.brain, subject.around, subject.mask_sha256
    measures = list(shape)
    measures.append(answer("zero_background_pct", 100 * around.zero_share, sha))
    measures.append(answer("outside_signal_pct", 100 * around.outside_share, sha))
    measures += pose.offset_measures(
        volume,
        brain,
        series.get("is_isocentre_known"),
        series.get("isocentre_reason"),
        sha,
    )
    drawn = picture.mosaic(volume, brain, () if subject.is_stripped else cut)
    if subject.is_stripped:
        text = "The image shows a brain without its skull: it was processed before it was sent"
        return _complete(measures, "skull_stripped", text, drawn, sha)
    measures += pose.coverage_measures(subject.coverage, sha)
    measures += iqm_measures(subject)
    measures += planning.stretch_measures(subject.pose, sha)
    measures += planning.room(volume, subject.pose, subject.coverage, sha)
    measures.append(planning.slice_tilt(volume, subject.pose, bool(cut), sha))
    measures.append(planning.gradient_correction(series.get("image_type"), sha))
    scores, ghost_axis, motion_axis = artefact_scores(subject)
    scores += likely.probabilities({m.name: m for m in scores}, sha)
    result = _complete(measures + scores, "not_measured", "Not measured", drawn, sha)
    return ImageResult(result.measures, result.picture, ghost_axis, motion_axis)


def artefact_scores(subject: Subject) -> tuple[list[Measure], str | None, str | None]:
    """A score for each artefact, and along which axis a ghost and motion run."""
    volume, brain, around, sha = subject.volume, subject.brain, subject.around, subject.mask_sha256
    axes, where = subject.axes, subject.pose
    ghost, ghost_axis = artefacts.ghost_measure(volume, brain, around, axes, sha)
    motion, motion_axis = artefacts.motion_measures(volume, brain, around, axes, sha)
    scores = [
        *artefacts.noise_measures(volume, brain, around, axes, sha),
        artefacts.bias_measure(subject.field, brain, sha),
        *ghost,
        *motion,
        damage.wrap_score(volume, brain, around, axes, sha),
        damage.spike_score(volume, axes, sha),
        damage.zipper_score(volume, brain, around, axes, sha),
        damage.dropout_score(volume, where, subject.corrected, sha),
        damage.slice_drop_score(volume, brain, sha),
        damage.edge_width(volume, brain, axes, sha),
        damage.face_score(volume, brain, where, sha),
        damage.missing_brain(volume, brain, where, sha),
    ]
    return scores, ghost_axis, motion_axis


def iqm_measures(subject: Subject) -> list[Measure]:
    """MRIQC's structural metrics, each with a value or the reason why there is none."""
    brain, sha, where = subject.brain, subject.mask_sha256, subject.pose
    classes = subject.tissue
    if isinstance(classes, Tissue):
        invalid = tissue.why_not_valid(classes, subject.contrast)
        classes = classes if invalid is None else invalid
    told = contrast.label_measure(subject.corrected, brain, subject.tissue, sha)
    image = iqm.scaled(subject.corrected, brain, None if isinstance(classes, Reason) else classes)
    around = subject.around
    hat = None if where is None else air.air_of(subject.volume, around, where)
    measures = [
        *iqm.grid_metrics(subject.volume, sha),
        *iqm.field_metrics(subject.field, brain, sha),
        *iqm.smoothness_metrics(subject.volume, brain, sha),
        *iqm.image_metrics(image, around, hat, sha),
        told,
        *contrast.ms_contrast(subject.volume, subject.corrected, brain, classes, subject.contrast, sha),
    ]
    if isinstance(classes, Reason) or hat is None or where is None:
        reason = classes if isinstance(classes, Reason) else tissue.NOT_ALIGNED
        return measures + all_unknown((*iqm.TISSUE_NAMES, *iqm.AIR_NAMES), reason, sha)
    found = iqm.tissue_metrics(image, brain, classes, sha)
    found += iqm.template_overlap(subject.volume, brain, classes, where, sha)
    found += iqm.air_metrics(image, hat, air.hat_problem(around, hat), found, sha)
    return measures + found


def _complete(measures: list[Measure], code: str, text: str, png: bytes, sha: str) -> ImageResult:
    """Fill in the measures that were not taken, with the reason, in the catalogue's order."""
    by_name = {m.name: m for m in measures}
    full = [by_name.get(name) or unknown(name, code, text, sha) for name in CATALOGUE]
    return ImageResult(full, png)
