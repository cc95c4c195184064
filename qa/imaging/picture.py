"""The picture of a scan that a person judges by: a mosaic with the brain's outline and the cut sides marked.

Here: arrays to PNG. No text from the header is drawn. Not here: which sides count as cut.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw
from scipy import ndimage

from qa.imaging.types import Mask, Volume

TILE = 168
COLUMNS = 5
BYTES_LIMIT = 150_000
OUTLINE = (255, 196, 0)
CUT = (255, 40, 40)
FRAME = (60, 110, 160)


def _tile(
    plane: np.ndarray, outline: np.ndarray, spacing: tuple[float, float], scale: float
) -> tuple[PilImage.Image, tuple[int, int, int, int]]:
    """One slice, first axis to the right, second axis up, in equal millimetres; and where it lies in the tile."""
    width = max(1, round(plane.shape[0] * spacing[0] * scale))
    height = max(1, round(plane.shape[1] * spacing[1] * scale))
    grey = PilImage.fromarray(plane.T[::-1]).resize((width, height), PilImage.Resampling.BILINEAR)
    mark = PilImage.fromarray(outline.T[::-1] * np.uint8(255)).resize((width, height), PilImage.Resampling.NEAREST)
    inside = np.asarray(mark) > 127
    edge = inside & ~ndimage.binary_erosion(inside)
    picture = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    picture[edge] = OUTLINE
    tile = PilImage.new("RGB", (TILE, TILE))
    left, top = (TILE - width) // 2, (TILE - height) // 2
    tile.paste(PilImage.fromarray(picture), (left, top))
    return tile, (left, top, left + width - 1, top + height - 1)


def _views(volume: Volume, brain: Mask) -> list[tuple[int, int]]:
    """(axis, index) of the slices shown: five across, five from front to back, five from left to right."""
    views = []
    for axis in (2, 1, 0):
        planes = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (planes[0], planes[-1]) if planes.size else (0, volume.data.shape[axis] - 1)
        for share in np.linspace(0.08, 0.92, COLUMNS):
            views.append((axis, round(first + share * (last - first))))
    return views


def _plane(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """One plane as a view; `np.take` would copy the whole array first."""
    plane: np.ndarray = np.moveaxis(array, axis, 0)[index]
    return plane


def mosaic(volume: Volume, brain: Mask, cut_sides: tuple[str, ...]) -> bytes:
    """PNG of at most 150 kB: axial, coronal and sagittal slices, patient's left on the left.

    The brain mask's outline is yellow; an edge of the field of view that cuts the brain is a red bar.
    """
    reach = volume.data[brain] if brain.any() else volume.data[volume.data > 0]
    high = float(np.percentile(reach, 99.5)) * 1.25 if reach.size else 1.0
    scale = TILE / float((np.array(volume.data.shape) * volume.spacing).max())
    sheet = PilImage.new("RGB", (TILE * COLUMNS, TILE * 3))
    for number, (axis, index) in enumerate(_views(volume, brain)):
        across, up = (a for a in range(3) if a != axis)
        plane = np.clip(_plane(volume.data, axis, index) / max(high, 1e-9) * 255, 0, 255).astype(np.uint8)
        tile, (left, top, right, bottom) = _tile(
            plane,
            _plane(brain, axis, index),
            (float(volume.spacing[across]), float(volume.spacing[up])),
            scale,
        )
        draw = ImageDraw.Draw(tile)
        draw.rectangle((left, top, right, bottom), outline=FRAME)
        bars = {
            ("left", "posterior", "inferior")[across]: (left, top, left + 3, bottom),
            ("right", "anterior", "superior")[across]: (right - 3, top, right, bottom),
            ("left", "posterior", "inferior")[up]: (left, bottom - 3, right, bottom),
            ("right", "anterior", "superior")[up]: (left, top, right, top + 3),
        }
        for side, bar in bars.items():
            if side in cut_sides:
                draw.rectangle(bar, fill=CUT)
        sheet.paste(tile, (number % COLUMNS * TILE, number // COLUMNS * TILE))
    return _encode(sheet)


def _encode(sheet: PilImage.Image) -> bytes:
    """PNG with a palette of greys and the three marks, with as many greys as fit the size."""
    pixels = np.asarray(sheet)
    for greys in (96, 48, 24, 12, 6):
        index = (pixels[..., 0].astype(np.uint16) * greys // 256).astype(np.uint8)
        palette = [v for level in range(greys) for v in (level * 255 // (greys - 1),) * 3]
        for number, colour in enumerate((OUTLINE, CUT, FRAME)):
            index[(pixels == np.array(colour, np.uint8)).all(axis=-1)] = greys + number
            palette += colour
        picture = PilImage.fromarray(index, mode="P")
        picture.putpalette(palette)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=6)
        if buffer.tell() <= BYTES_LIMIT:
            break
    return buffer.getvalue()
