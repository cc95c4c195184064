"""What goes into and comes out of imaging ingestion.

Here: the typed records that the steps of this package hand to each other. Not here: how any of them is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

FileKind = Literal["dicom", "nifti", "sidecar", "other"]


@dataclass(frozen=True)
class ImageFile:
    """One file of a delivery that is not a registry file."""

    path: Path
    file_number: int
    """1-based number within the delivery: how a site finds the file without our printing its path."""
    sha256: str
    bytes_count: int


@dataclass(frozen=True)
class FileFate:
    """What one file was taken for and what became of it."""

    kind: FileKind
    series_key: str | None
    status: Literal["accepted", "refused"]
    reason_code: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ImagesResult:
    """Series (the columns of `raw_imaging__series`) and the fate of every file, by file number."""

    series: pl.DataFrame
    files: dict[int, FileFate]


@dataclass(frozen=True)
class Gaps:
    """Where the slices of a volume with gaps lie on an evenly spaced grid."""

    numbers: tuple[int, ...]
    """Grid position of each slice in order of `normal`, from 0."""
    first_mm: float
    """Distance of grid position 0 from the origin along `normal`."""
    step_mm: float
    normal: tuple[float, ...]
    """Unit vector across the slices, in patient coordinates (LPS)."""


@dataclass(frozen=True)
class ConversionWork:
    """One series to convert; picklable, and complete without the process that made it.

    Paths stay inside the process that reads them: neither results nor errors carry them.
    """

    home: str
    site_code: str
    series_key: str
    subject_key: str
    session_key: str
    files: tuple[tuple[str, str], ...]
    """(path, sha256) of each file, in file order."""
    contrast: str
    is_contrast_enhanced: bool
    sidecars: dict[str, tuple[str, str]] = field(default_factory=dict)
    """NIfTI deliveries: (path, sha256) of the `.json`, `.bval` and `.bvec` that belong to the image."""
    gaps: Gaps | None = None
    """Set where slices are missing between others of a single volume."""


@dataclass(frozen=True)
class Converted:
    """A series in the lake, or why it is not there."""

    status: Literal["accepted", "refused"]
    reason_code: str | None = None
    reason: str | None = None
    image_sha256: str | None = None
    sidecar_sha256: str | None = None
    bval_sha256: str | None = None
    bvec_sha256: str | None = None
    ledger_sha256: str | None = None
    bids_path: str | None = None
    converter_version: str | None = None
    shape: tuple[int, ...] = ()
    """Voxels per axis of the converted image, with volumes last."""
    zooms: tuple[float, ...] = ()
    """Voxel size in mm per spatial axis of the converted image."""
    affine: tuple[tuple[float, ...], ...] = ()
    """Voxel indices to RAS mm."""
    sidecar: dict[str, Any] = field(default_factory=dict)
    acquired: str | None = None
    """NIfTI deliveries: when the sidecar says the image was acquired, as ISO text."""
