"""Reading one image file as a volume in RAS orientation.

Here: NIfTI to `Volume`. Not here: DICOM (`ingestion.imaging.convert`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from qa.imaging.types import Volume
from warehouse.errors import RanvierError


class ImageUnreadable(RanvierError):
    """An image file holds no volume that can be measured."""


def load_volume(path: Path) -> Volume:
    """The first volume of a NIfTI file, nearest axes turned to right, anterior, superior; NaN and infinity become 0.

    Raises
    ------
    ImageUnreadable
        Not a NIfTI file, cut short, or not three-dimensional.
    """
    try:
        image: Any = nib.as_closest_canonical(nib.load(path))  # type: ignore[no-untyped-call]
        if len(image.shape) < 3 or min(image.shape[:3]) < 2:
            raise ImageUnreadable("The image has no three-dimensional volume; send the whole series")
        proxy = image.dataobj
        first = proxy[..., *([0] * (len(image.shape) - 3))] if len(image.shape) > 3 else proxy
        # NIfTI stores the first axis fastest, everything computed from it here the last: mixing the two costs seconds.
        data = np.nan_to_num(np.array(first, dtype=np.float32, order="C"), copy=False, nan=0, posinf=0, neginf=0)
    except (ImageFileError, EOFError, OSError, ValueError) as error:
        raise ImageUnreadable("The image file cannot be read to its end; send it again") from error
    affine = np.asarray(image.affine, dtype=np.float64)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.all(np.isfinite(affine)) or np.any(spacing <= 0):
        raise ImageUnreadable("The image does not say where its voxels lie; send it again with its orientation")
    count = int(np.prod(image.shape[3:])) if len(image.shape) > 3 else 1
    return Volume(data, affine, spacing, count)
