"""Names for the arrays that image functions pass to one another.

Here: aliases and the one loaded volume. Not here: anything that computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIDES = ("left", "right", "posterior", "anterior", "inferior", "superior")
"""The six faces of a volume in RAS order: low and high end of x, y and z."""


@dataclass(frozen=True)
class Volume:
    """One volume in RAS orientation: intensities, voxel-to-world matrix (mm) and voxel edge lengths (mm)."""

    data: Image
    affine: NDArray[np.float64]
    spacing: NDArray[np.float64]
    volumes_count: int = 1

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000

    @property
    def slice_axis(self) -> int:
        """The axis with the largest spacing: the slice direction of 2D scans."""
        return int(np.argmax(self.spacing))
