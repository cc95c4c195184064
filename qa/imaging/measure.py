"""From one image file to its measures and its picture: the order of the steps.

Here: which measures an image gets, and which reason stands where it gets none. Not here: the formulas (the modules
beside this one), limits (`verdict`), the lake (`qa.images`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.imaging import artefacts, head, picture, pose, snr_cnr
from qa.imaging.answers import CATALOGUE, METHOD_VERSION, answer, unknown
from qa.imaging.mask import METHOD_VERSION as MASK_VERSION
from qa.imaging.mask import brain_mask
from qa.imaging.types import Image, Mask, Volume
from qa.imaging.volume import load_volume
from qa.model import Measure

MEASURED = ("T1w", "T2w", "FLAIR", "PDw")
"""Contrasts with the whole set of measures."""
LOOKED_AT = ("bold", "dwi")
"""Contrasts of which only what the image shows is asked: a head or not."""
HEADER_FACTS = (
    "contrast", "acquisition_dimension", "is_derived", "is_isocentre_known", "isocentre_reason",
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


def cut_sides(found: pose.Coverage) -> tuple[str, ...]:
    """Sides on which the field of view cuts the brain."""
    return tuple(
        side
        for side, area in found.cut_area_mm2.items()
        if area > (CUT_AREA_INFERIOR_MM2 if side == "inferior" else CUT_AREA_MM2)
    )


def nothing(code: str, text: str) -> ImageResult:
    """No measure at all, with one reason for all of them."""
    return ImageResult([unknown(name, code, text) for name in CATALOGUE], b"")


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
    brain = brain_mask(volume.data, cache)
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
    return _anatomical(volume, brain, sha, found, cut, shape, series, contrast)


def _anatomical(
    volume: Volume,
    brain: Mask,
    sha: str,
    found: pose.Coverage,
    cut: tuple[str, ...],
    shape: list[Measure],
    series: Mapping[str, Any],
    contrast: str,
) -> ImageResult:
    dimension = series.get("acquisition_dimension") or ("2D" if volume.spacing.max() > 2 else None)
    around = head.surroundings(volume, brain)
    is_derived = bool(series.get("is_derived"))
    is_stripped = around.outside_share < snr_cnr.STRIPPED_SHARE
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
    measures += [] if is_stripped else pose.coverage_measures(found, sha)
    field = head.bias_field(volume, brain)
    corrected: Image = (volume.data / np.maximum(field, 0.05)).astype(np.float32, copy=False)
    reason = snr_cnr.why_no_tissue(contrast, dimension, is_derived, around.outside_share)
    measures += snr_cnr.tissue_measures(volume, corrected, brain, around, contrast, reason, sha)
    if is_stripped:
        text = "The image shows a brain without its skull: it was processed before it was sent"
        return _complete(measures, "skull_stripped", text, picture.mosaic(volume, brain, ()), sha)
    axes = artefacts.in_plane_axes(volume, dimension)
    measures += snr_cnr.whole_image_measures(volume, around, sha)
    measures += artefacts.noise_measures(volume, brain, around, axes, sha)
    measures.append(artefacts.bias_measure(field, brain, sha))
    ghost, ghost_axis = artefacts.ghost_measure(volume, brain, around, axes, sha)
    motion, motion_axis = artefacts.motion_measures(volume, brain, around, axes, sha)
    measures += [ghost, *motion]
    result = _complete(
        measures,
        "not_measured",
        "Not measured",
        picture.mosaic(volume, brain, cut),
        sha,
    )
    return ImageResult(result.measures, result.picture, ghost_axis, motion_axis)


def _complete(measures: list[Measure], code: str, text: str, png: bytes, sha: str) -> ImageResult:
    """Fill in the measures that were not taken, with the reason, in the catalogue's order."""
    by_name = {m.name: m for m in measures}
    full = [by_name.get(name) or unknown(name, code, text, sha) for name in CATALOGUE]
    return ImageResult(full, png)
