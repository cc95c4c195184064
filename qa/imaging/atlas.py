"""The MNI brain that heads are compared with, and what an image looks like when laid out on it.

Here: the template that nilearn ships, on a coarse grid, and intensities at its points. Not here: finding the alignment
(`qa.imaging.pose`), tissue classes at full resolution (`qa.imaging.tissue`).
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from qa.imaging.types import Image, Mask, Volume
from warehouse.errors import RanvierError

GRID_MM = 4.0
EVERY = 2
"""Of the points every second one is aligned: angles of real heads move by less than 0.1 degrees."""
REACH_MM = 16.0
"""Distances to the brain's surface are followed this far on either side."""
LEAST_POINTS = 500
Matrix = NDArray[np.float64]


class ReferenceMissing(RanvierError):
    """The MNI brain that positions are told against is not installed."""


def template(kind: str) -> Any:
    """One of the MNI images that nilearn ships: `t1`, or the probability of `gm` or `wm`."""
    spec = importlib.util.find_spec("nilearn")  # its import takes five seconds, and only a file of it is wanted
    if spec is None or spec.origin is None:
        raise ReferenceMissing("The package nilearn, which ships the MNI brain, is not installed")
    path = Path(spec.origin).parent / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.exists():
        raise ReferenceMissing("nilearn's MNI brain is missing; reinstall nilearn")
    return nib.load(path)


@lru_cache(maxsize=1)
def mni() -> tuple[Matrix, NDArray[np.float64], Mask, Matrix]:
    """MNI brain: points near its surface or inside (mm), their signed distances, its mask and affine on a 4 mm grid."""
    image = template("t1")
    affine = np.asarray(image.affine, float)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.asarray(image.dataobj) > 0, iterations=2))
    brain = np.pad(brain, 20)
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 20.0)
    step = round(GRID_MM / abs(affine[0, 0]))
    coarse = brain[::step, ::step, ::step]
    affine = affine @ np.diag([step, step, step, 1.0])
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    distance = signed_distance(coarse, spacing)
    near = np.argwhere(np.abs(distance) < REACH_MM)[::EVERY]
    return near @ affine[:3, :3].T + affine[:3, 3], distance[tuple(near.T)], coarse, affine


def signed_distance(mask: Mask, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    distance: NDArray[np.float64] = np.clip(inside - outside, -REACH_MM, REACH_MM)
    return distance


def mni_grid() -> tuple[NDArray[np.float64], Mask]:
    _, _, mask, affine = mni()
    index = np.argwhere(np.ones_like(mask))
    return index @ affine[:3, :3].T + affine[:3, 3], mask


def sample(array: np.ndarray, volume: Volume, world: NDArray[np.float64]) -> np.ndarray:
    back = np.linalg.inv(volume.affine)
    grid = np.rint(world @ back[:3, :3].T + back[:3, 3]).astype(int)
    inside = np.all((grid >= 0) & (grid < array.shape), axis=1)
    grid = np.clip(grid, 0, np.array(array.shape) - 1)
    return np.where(inside, array[grid[:, 0], grid[:, 1], grid[:, 2]], 0)


@lru_cache(maxsize=1)
def _tissue_maps() -> NDArray[np.float64]:
    """Probability of grey and white matter at each voxel of the MNI brain on the 4 mm grid, in its order."""
    world, mask = mni_grid()
    inside = world[mask.ravel()]
    maps = []
    for kind in ("gm", "wm"):
        image = template(kind)
        values = ndimage.gaussian_filter(np.asarray(image.dataobj, float), 2.0)
        back = np.linalg.inv(np.asarray(image.affine, float))
        maps.append(ndimage.map_coordinates(values, (inside @ back[:3, :3].T + back[:3, 3]).T, order=1))
    return np.stack(maps, axis=1)


def tissue_grid() -> NDArray[np.float64]:
    """Share of grey and white matter together at each voxel of the 4 mm grid."""
    _, mask = mni_grid()
    grid = np.zeros(mask.size)
    grid[mask.ravel()] = _tissue_maps().sum(axis=1) / 255
    return grid.reshape(mask.shape)


def inner_look(volume: Volume, matrix: Matrix) -> tuple[float, float]:
    """What the intensities inside the aligned brain say: left-right symmetry, and the share that anatomy explains.

    Symmetry is the correlation with the image mirrored at MNI's middle plane. Structure is the partial R2 of MNI's grey
    and white matter on the intensities beyond a quadratic field, whatever the sign: contrast does not matter, a uniform
    or randomly textured body has next to none.
    """
    one, other, seen = _both_sides(volume, volume.data, matrix)
    if seen.sum() < LEAST_POINTS or one[seen].std() < 1e-9 or other[seen].std() < 1e-9:
        return 0.0, 0.0
    symmetry = float(np.corrcoef(one[seen], other[seen])[0, 1])
    values = np.clip(one[seen], *np.percentile(one[seen], [1, 99]))
    field, tissue = _field_and_tissue(seen)
    rest = values - _fitted(field, values)
    full = values - _fitted(np.column_stack([field, tissue]), values)
    return symmetry, float(1 - (full**2).sum() / max((rest**2).sum(), 1e-12))


def _both_sides(volume: Volume, image: Image, matrix: Matrix) -> tuple[np.ndarray, np.ndarray, Mask]:
    """Local means of an image at the MNI brain's points and at their mirror points, and where both are in the image."""
    world, mask = mni_grid()
    inside = world[mask.ravel()]
    blurred = ndimage.uniform_filter(image, [max(1, round(GRID_MM / s)) for s in volume.spacing])
    one, other = (sample(blurred, volume, w @ matrix[:3, :3].T + matrix[:3, 3]) for w in (inside, inside * [-1, 1, 1]))
    return one, other, (one > 0) & (other > 0)


def _field_and_tissue(seen: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A quadratic field and the two tissue maps at some points of the MNI brain, one column each."""
    world, mask = mni_grid()
    x = world[mask.ravel()][seen] / 100
    products = [x[:, :1] * x[:, 1:2], x[:, 1:2] * x[:, 2:], x[:, :1] * x[:, 2:]]
    return np.column_stack([np.ones(len(x)), x, x**2, *products]), _tissue_maps()[seen]


def _fitted(basis: NDArray[np.float64], values: np.ndarray) -> NDArray[np.float64]:
    solution, *_ = np.linalg.lstsq(basis, values, rcond=None)
    fit: NDArray[np.float64] = basis @ solution
    return fit


def laid_out(volume: Volume, image: Image, matrix: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray, Mask] | None:
    """An image on MNI's 4 mm grid: its values, what tissue and a smooth field predict, the mirrored values, and where.

    None where too little of the brain is in the image.
    """
    one, other, seen = _both_sides(volume, image, matrix)
    if seen.sum() < LEAST_POINTS:
        return None
    _, mask = mni_grid()
    predicted = _fitted(np.column_stack(_field_and_tissue(seen)), one[seen])
    where = np.zeros(mask.size, bool)
    where[np.flatnonzero(mask.ravel())[seen]] = True
    grids = []
    for values in (one[seen], predicted, other[seen]):
        grid = np.zeros(mask.size)
        grid[where] = values
        grids.append(grid.reshape(mask.shape))
    return grids[0], grids[1], grids[2], where.reshape(mask.shape)


def deep_values(volume: Volume, matrix: Matrix, depth_mm: float) -> tuple[np.ndarray, float]:
    """The image this deep inside the MNI brain and in the field of view, and the volume of each such point (ml)."""
    _, _, mask, affine = mni()
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    deep = np.argwhere(signed_distance(mask, spacing) > depth_mm)
    points = deep @ affine[:3, :3].T + affine[:3, 3]
    to_voxel = np.linalg.inv(volume.affine) @ matrix
    voxels = np.rint(points @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
    inside = np.all((voxels >= 0) & (voxels < volume.data.shape), axis=1)
    scale = float(np.prod(spacing) * abs(np.linalg.det(matrix[:3, :3]))) / 1000
    return volume.data[tuple(voxels[inside].T)], scale
