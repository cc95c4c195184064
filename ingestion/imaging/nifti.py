"""NIfTI files: whether one is whole, and writing it without the texts its header can hold.

Here: reading headers, the de-identified copy, and the checks of a file that arrived as NIfTI. Not here: which files of a
delivery belong together (`nifti_delivery`). Voxel bytes are copied as they are.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ingestion.imaging.model import Gaps
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.lake import CHUNK, put_object

COMPRESSION = 1
"""Compression level 1 makes images 2-4 % larger than level 6 in a fifth of the time."""
_TEXTS = ("db_name", "data_type", "descrip", "aux_file", "intent_name")
_LABELS_MOST = 8
"""A volume of integers with at most this many different values is a mask or a label map, not an acquisition."""

Affine = tuple[tuple[float, ...], ...]


class ImageRefused(RanvierError):
    """An image that cannot be used; `code` is the reason to count by."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Grid:
    """The voxels of an image: their number per axis, size in mm, and place in RAS mm."""

    shape: tuple[int, ...]
    zooms: tuple[float, ...]
    affine: Affine

    @property
    def volumes(self) -> int:
        return int(np.prod(self.shape[3:], dtype=int)) if len(self.shape) > 3 else 1


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw, mode="rb") as handle:
                yield cast(BinaryIO, handle)
        else:
            yield raw


def _header(handle: BinaryIO) -> tuple[nibabel.Nifti1Header, int, int]:
    """(header, where the voxels begin, how many bytes they take)."""
    start = handle.read(4)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    kind = nibabel.Nifti2Header if 540 in sizes else nibabel.Nifti1Header
    if not sizes & {348, 540}:
        raise ImageRefused("unreadable_nifti", "this is not a NIfTI image, though its name says so")
    size = 540 if 540 in sizes else 348
    block = start + handle.read(size - 4)
    if len(block) < size:
        raise ImageRefused("truncated", "the NIfTI file ends within its header; send it again")
    try:
        header = kind(block, check=False)
        if bytes(header["magic"].tobytes()).rstrip(b"\0")[:3] not in (b"n+1", b"n+2"):
            raise ImageRefused("nifti_pair", "the image is split into .hdr and .img; send it as one .nii or .nii.gz file")
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        begin = int(header["vox_offset"])
    except (HeaderDataError, ValueError, KeyError, OverflowError):
        raise ImageRefused("unreadable_nifti", "the NIfTI header is damaged; export the image again") from None
    if dtype.names is not None or dtype.kind not in "iuf":
        raise ImageRefused("not_grayscale", "a colour or complex image is no acquisition; send the magnitude image")
    if not 3 <= len(shape) <= 4 or min(shape) < 1:
        raise ImageRefused("not_a_volume", "the image has neither three nor four dimensions")
    if begin < size or begin > 1 << 26:
        raise ImageRefused("unreadable_nifti", "the NIfTI header is damaged; export the image again")
    return header, begin, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _grid(header: nibabel.Nifti1Header) -> Grid:
    affine = header.get_best_affine()
    zooms = tuple(float(size) for size in header.get_zooms()[:3])
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9 or min(zooms) <= 0:
        raise ImageRefused("no_geometry", "the image does not say where its voxels lie; export it with its geometry")
    return Grid(tuple(header.get_data_shape()), zooms, tuple(tuple(float(v) for v in row) for row in affine))


def read_grid(path: Path) -> Grid:
    """Shape, voxel size and position of an image. Raises ImageRefused."""
    with _opened(path) as handle:
        return _grid(_header(handle)[0])


def store(home: Home, source: Path) -> tuple[str, Path, Grid]:
    """Store an image in the lake without free text, extensions or anything after its voxels.

    Returns
    -------
    (sha256, path, grid)
        The same voxels and geometry give the same bytes, whoever compressed them.

    Raises
    ------
    ImageRefused
        The file is damaged, cut off, or not a magnitude image in three or four dimensions.
    """
    try:
        with _opened(source) as handle:
            header, begin, length = _header(handle)
            grid = _grid(header)
            skip = begin - int(header["sizeof_hdr"])
            if len(handle.read(skip)) < skip:
                raise ImageRefused("truncated", "the NIfTI file ends before its image data; send it again")
            clean = header.copy()
            clean.extensions.clear()
            for name in _TEXTS:
                if name in clean.keys():  # noqa: SIM118 - a header is not a mapping
                    clean[name] = b""
            clean["vox_offset"] = int(header["sizeof_hdr"]) + 4

            def fill(target: BinaryIO) -> None:
                with gzip.GzipFile("", "wb", COMPRESSION, target, mtime=0) as packed:
                    packed.write(clean.binaryblock + b"\0\0\0\0")
                    left = length
                    while left:
                        block = handle.read(min(CHUNK, left))
                        if not block:
                            raise ImageRefused("truncated", "the NIfTI file ends before its image data; send it again")
                        packed.write(block)
                        left -= len(block)

            digest, path = put_object(home, fill, ".nii.gz")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ImageRefused("truncated", "the compressed file is damaged or cut off; send it again") from None
    return digest, path, grid


def fill_gaps(image: Path, gaps: Gaps) -> Path | None:
    """Put the slices of a volume with gaps where they belong, on an evenly spaced grid.

    dcm2niix stacks such slices as if none were missing, or resamples the whole volume. Here every slice that arrived
    keeps its voxels, and a missing one is interpolated linearly between its neighbours.

    Parameters
    ----------
    image
        dcm2niix's stacked volume; replaced.
    gaps
        The grid. The volume may hold the slices in either direction.

    Returns
    -------
    Path or None
        None when the volume does not hold these slices.
    """
    if not image.exists():
        return None
    loaded = cast(nibabel.Nifti1Image, nibabel.load(image))
    numbers = gaps.numbers
    if loaded.ndim != 3 or loaded.shape[2] != len(numbers):
        return None
    raw = np.asanyarray(loaded.dataobj.get_unscaled())
    affine = loaded.affine.copy()
    across = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    normal = np.array([-gaps.normal[0], -gaps.normal[1], gaps.normal[2]])
    begin_mm = gaps.first_mm
    if across @ normal < 0:
        begin_mm += gaps.step_mm * numbers[-1]
        numbers = tuple(numbers[-1] - number for number in reversed(numbers))
    filled = np.zeros((*raw.shape[:2], numbers[-1] + 1), raw.dtype, order="F")
    for at, number in enumerate(numbers):
        filled[..., number] = raw[..., at]
        before = numbers[at - 1] if at else number
        for missing in range(before + 1, number):
            share = (missing - before) / (number - before)
            mixed = raw[..., at - 1] * (1 - share) + raw[..., at] * share
            filled[..., missing] = np.round(mixed) if raw.dtype.kind in "iu" else mixed
    # dcm2niix takes the step from the first two slices, which may have a gap between them, and where it turns the order
    # of slices it counts those that are there: both step and origin are set again from the headers' positions.
    affine[:3, 2] = across * gaps.step_mm
    affine[:3, 3] += normal * (begin_mm - affine[:3, 3] @ normal)
    header = loaded.header.copy()
    header.set_data_shape(filled.shape)
    for code in ("sform", "qform"):
        getattr(header, f"set_{code}")(affine, int(header[f"{code}_code"]))
    header.set_slope_inter(loaded.dataobj.slope, loaded.dataobj.inter)
    header["vox_offset"] = 352
    target = image.with_name("filled.nii")
    target.write_bytes(header.binaryblock + b"\0\0\0\0" + filled.astype(raw.dtype).tobytes(order="F"))
    for suffix in (".json", ".bval", ".bvec"):
        if image.with_suffix(suffix).exists():
            target.with_suffix(suffix).write_bytes(image.with_suffix(suffix).read_bytes())
    return target


def looks_like_labels(path: Path) -> bool:
    """Whether an image holds a few whole numbers only, as masks and label maps do."""
    image = nibabel.load(path)
    data = np.asanyarray(image.dataobj)[::2, ::2]
    if data.dtype.kind == "f" and not np.array_equal(data, np.round(data)):
        return False
    return len(np.unique(data)) <= _LABELS_MOST


def phase_axis(affine: Affine, direction_lps: tuple[float, float, float]) -> str:
    """Which axis of an image (i, j or k) runs along a direction given in patient coordinates (LPS)."""
    ras = np.array([-direction_lps[0], -direction_lps[1], direction_lps[2]])
    axes = np.array(affine)[:3, :3]
    cosines = np.abs(ras @ (axes / np.linalg.norm(axes, axis=0)))
    return "ijk"[int(np.argmax(cosines))]
