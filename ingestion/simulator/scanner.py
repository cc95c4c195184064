"""How a scanner sees a head: pose, individual shape, shading, noise, k-space, and the grid of the slices.

Here: from anatomy to stored values with their geometry. Not here: the DICOM file (`dicom`) or which faults there are
(`faults`). World coordinates are RAS in mm with the isocentre as origin until the table's shift is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ingestion.simulator.anatomy import ORIGIN_MM, Anatomy, Array, signal
from ingestion.simulator.faults import Complex, Disturbance, measure
from ingestion.simulator.network import Protocol, Scanner

Matrix = NDArray[np.float64]
COARSE = 8
"""The smooth deformation is worked out at every eighth voxel."""
BRAIN_CENTRE = np.array([0.0, -20.0, 5.0])
"""Centre of the anatomy's brain."""
FRAME_CENTRE = {"sagittal": np.array([0.0, 8.0, -30.0]), "axial": np.array([0.0, 8.0, -18.0])}
"""Middle of a well planned field of view against the brain's centre turned upright: vertex, nose and neck inside."""


@dataclass(frozen=True)
class Scan:
    """Stored values (slice, row, column) and where they lie in DICOM's patient coordinates (LPS, mm)."""

    pixels: NDArray[np.uint16]
    first_position: Matrix
    slice_step: Matrix
    orientation: tuple[float, ...]
    table_mm: float


@dataclass(frozen=True)
class Shape:
    """What makes one subject's head its own; drawn from the subject's seed alone."""

    affine: Matrix
    waves: Matrix
    """Rows of frequency (3), phase, and displacement in mm (3)."""
    lesions: int
    lesion_seed: int


def subject_shape(seed: list[int]) -> Shape:
    """Size (the MNI head is larger than most), a little shear, a smooth deformation, and 8 to 40 lesions."""
    rng = np.random.default_rng(seed)
    affine = np.diag(rng.uniform(0.88, 0.99, 3)) + rng.normal(0, 0.008, (3, 3))
    waves = np.column_stack([rng.normal(0, 0.018, (6, 3)), rng.uniform(0, 2 * np.pi, 6), rng.normal(0, 0.9, (6, 3))])
    return Shape(affine, waves, int(rng.integers(8, 41)), int(rng.integers(1 << 31)))


def _turn(pitch: float, roll: float, yaw: float) -> Matrix:
    """Rotation of the head: nose up, towards the right shoulder, to the left; in degrees."""
    a, b, c = np.radians((pitch, roll, yaw))
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: Matrix = z @ y @ x
    return turned


def _axes(plane: str) -> tuple[Matrix, int]:
    """Unit steps in RAS of slice, row and column index (as columns), and the phase axis of the array."""
    if plane == "sagittal":
        return np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]), 2
    return np.array([[0, 0, -1.0], [0, -1.0, 0], [1.0, 0, 0]]), 2


@dataclass(frozen=True)
class _Grid:
    shape: tuple[int, int, int]
    step: Matrix
    """RAS mm per index of slice, row, column, as columns."""
    origin: Matrix


def _grid(scanner: Scanner, protocol: Protocol, slice_factor: float, centre: Matrix) -> _Grid:
    directions, _ = _axes(scanner.plane)
    thick = protocol.slice_mm * slice_factor
    shape = (max(16, round(protocol.slices / slice_factor)), *protocol.matrix)
    step = directions * np.array([thick, protocol.pixel_mm, protocol.pixel_mm])
    return _Grid(shape, step, centre - step @ ((np.array(shape) - 1) / 2))


def _stretch(coarse: Array, shape: tuple[int, ...]) -> Array:
    """Linear interpolation of the last three axes from every `COARSE`-th voxel to every one."""
    for axis, n in enumerate(shape, start=coarse.ndim - 3):
        place = np.arange(n) / COARSE
        low = place.astype(int)
        weight = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(coarse.ndim)])
        coarse = np.take(coarse, low, axis) * (1 - weight) + np.take(coarse, low + 1, axis) * weight
    return coarse


def _coarse_world(grid: _Grid) -> Array:
    """RAS coordinates (3, ...) of every `COARSE`-th voxel, one beyond the end."""
    index = np.stack(np.meshgrid(*(np.arange(n // COARSE + 2) * COARSE for n in grid.shape), indexing="ij"))
    world = np.tensordot(grid.step, index, 1) + grid.origin.reshape(3, 1, 1, 1)
    return world.astype(np.float32)


def _look(head: Array, shape: Shape, grid: _Grid, turn: Matrix, shift: Matrix) -> Array:
    """The head's signal on the scan's grid: rotation, the subject's size and deformation in one interpolation."""
    inverse = np.linalg.inv(turn @ shape.affine)
    world = _coarse_world(grid)
    place = np.tensordot(inverse, world - shift.reshape(3, 1, 1, 1), 1)
    for row in shape.waves:
        angle = np.tensordot(row[:3], place, 1) + row[3]
        place += row[4:].reshape(3, 1, 1, 1) * np.sin(angle)
    place += (BRAIN_CENTRE - ORIGIN_MM).reshape(3, 1, 1, 1)
    out = np.empty(grid.shape, np.float32)
    coordinates = place.astype(np.float32)
    # A slab at a time: all coordinates at once would take half a gigabyte.
    for start in range(0, grid.shape[0], COARSE):
        slab = coordinates[:, start // COARSE : start // COARSE + 2]
        count = min(COARSE, grid.shape[0] - start)
        fine = _stretch(slab, (count, *grid.shape[1:]))
        ndimage.map_coordinates(head, fine, output=out[start : start + count], order=1, mode="nearest")
    return out


def _shading(strength: float, grid: _Grid, centre: Matrix, rng: np.random.Generator) -> Array:
    """The coil's smooth multiplicative field around 1."""
    place = (_coarse_world(grid) - centre.reshape(3, 1, 1, 1)) / 90
    slope = rng.normal(0, 1, 3)
    slope /= np.linalg.norm(slope)
    bend = float(rng.uniform(0.3, 0.7))
    log = np.tensordot(slope, place, 1) + bend * ((place**2).sum(0) - 0.6)
    strength *= float(rng.uniform(0.9, 1.1))
    field: Array = np.exp(np.float32(strength) * _stretch(np.clip(log, -2, 2).astype(np.float32), grid.shape))
    return field


def scan(
    anatomy: Anatomy,
    scanner: Scanner,
    protocol: Protocol,
    contrast: str,
    shape: Shape,
    wanted: Disturbance,
    seed: list[int],
) -> Scan:
    """Scan one head. The same arguments give the same bytes."""
    rng = np.random.default_rng(seed)
    look = f"{contrast}_mistimed" if wanted.is_mistimed else contrast
    head = signal(anatomy, look, shape.lesions, np.random.default_rng(shape.lesion_seed))
    # Heads on a cushion nod by about 13 degrees against the MNI brain.
    rest = np.array([13.0, 0.0, 0.0]) + rng.normal(0, (1.8, 1.2, 1.2))
    angles = rest + np.array(wanted.turn_deg)
    brain = np.array([0.0, -5.0, -8.0]) + rng.normal(0, (2.0, 4.0, 6.0))
    # The field of view is planned on the localizer: it follows the head, except where it cuts it.
    frame = brain + FRAME_CENTRE[scanner.plane] + rng.normal(0, 1.5, 3) + np.array(wanted.frame_shift_mm)
    grid = _grid(scanner, protocol, wanted.slice_factor, frame)
    _, axis = _axes(scanner.plane)

    poses = [(_turn(*angles), brain)]
    for _ in range(wanted.moves):
        turned = _turn(*(angles + rng.normal(0, 1, 3) * wanted.move_deg / 1.7))
        poses.append((turned, brain + rng.normal(0, 1, 3) * wanted.move_mm / 1.7))
    shading = _shading(scanner.bias + wanted.bias_added, grid, brain, rng)
    sigma = np.float32(protocol.noise_pct / 100 * wanted.noise_factor)

    def states() -> Iterator[Complex]:
        for turn, shift in poses:
            noisy = rng.standard_normal((*grid.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
            noisy *= sigma
            noisy.real += _look(head, shape, grid, turn, shift) * shading
            yield noisy

    image = measure(states(), axis, wanted, rng)
    limit = 4095 if scanner.vendor != "GE" else 32767
    pixels = np.clip(np.rint(np.abs(image) * scanner.full_scale), 0, limit).astype(np.uint16)

    lps = np.diag([-1.0, -1.0, 1.0])
    first = lps @ (grid.origin + np.array([0.0, 0.0, wanted.table_shift_mm]))
    unit = lps @ (grid.step / np.linalg.norm(grid.step, axis=0))
    # DICOM names the direction of a row (along which the column index grows) first.
    orientation = (*unit[:, 2], *unit[:, 1])
    return Scan(pixels, first, lps @ grid.step[:, 0], tuple(float(v) + 0.0 for v in orientation), 0.0)
