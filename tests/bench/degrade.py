"""Sound heads made worse in k-space or geometry, five severities an artefact, the third being the visible one.

Here: one function an artefact, and the null artefact that sound controls pass: the same transform, resampling and
magnitude. Not here: scores, files, results (`tests.bench.artefacts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from qa.imaging.types import Mask, Volume

VISIBLE = 3
NOISE_FLOOR = 0.01
"""Complex noise that every head gets, controls too, over the brain's median: some scanners blank the air."""
SEVERITIES: dict[str, tuple[float, ...]] = {
    "motion": (0.5, 1, 2, 3, 4),  # mm RMS in 30 % of the phase lines
    "ghost": (0.0125, 0.025, 0.05, 0.075, 0.1),  # share of the signal
    "wrap": (0.015, 0.03, 0.06, 0.09, 0.12),  # share of the head's signal
    "spike": (0.0125, 0.025, 0.05, 0.075, 0.1),  # stripe over the brain's median
    "zipper": (0.06, 0.12, 0.25, 0.37, 0.5),  # line over the brain's median
    "low_snr": (24, 18, 12, 8, 6),  # the brain's median over the noise
    "bias": (0.15, 0.3, 0.6, 0.9, 1.2),  # (p95 - p5) / median in the brain
    "dropout": (0.1, 0.2, 0.3, 0.45, 0.6),  # loss in a ball of 7 ml
    "blur": (0.5, 1, 2, 3, 4),  # mm FWHM added
    "cut_off": (2, 3, 5, 10, 20),  # mm of brain
}
MOVED_LINES = 0.3
BALL_MM = 12.0


@dataclass(frozen=True)
class Head:
    """A scan, its brain mask and the axis along which phase was encoded; `axes` are encoded, slices are not."""

    volume: Volume
    brain: Mask
    phase: int
    axes: tuple[int, ...]

    @property
    def level(self) -> float:
        return float(np.median(self.volume.data[self.brain]))

    def with_data(self, data: np.ndarray) -> Head:
        return replace(self, volume=replace(self.volume, data=np.ascontiguousarray(data, dtype=np.float32)))


def _along(head: Head, axis: int, values: np.ndarray) -> np.ndarray:
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.reshape(shape)


def _frequencies(head: Head, axis: int) -> np.ndarray:
    """Cycles per mm of each line of k-space."""
    return np.asarray(fft.fftfreq(head.volume.data.shape[axis], float(head.volume.spacing[axis])), np.float32)


def reconstruct(head: Head, spoil: Callable[[np.ndarray], np.ndarray], random: np.random.Generator) -> Head:
    """Transform, spoil k-space, transform back, add the noise floor, take the magnitude."""
    lines = spoil(fft.fftn(head.volume.data.astype(np.complex64), axes=head.axes))
    image = fft.ifftn(lines, axes=head.axes)
    sigma = np.float32(NOISE_FLOOR * head.level)
    noise = random.standard_normal((2, *image.shape), dtype=np.float32) * sigma
    return head.with_data(np.abs(image + noise[0] + 1j * noise[1]))


def null(head: Head, amount: float, random: np.random.Generator) -> Head:
    return reconstruct(head, lambda lines: lines, random)


def motion(head: Head, amount: float, random: np.random.Generator) -> Head:
    """The head is elsewhere while blocks of phase lines are read: translations along every encoded axis."""
    count = head.volume.data.shape[head.phase]
    blocks = 8
    length = max(1, round(MOVED_LINES * count / blocks))
    moved = np.zeros((count, 3), np.float32)
    for start in random.choice(count - length, blocks, replace=False):
        step = random.standard_normal(3)
        moved[start : start + length] = amount * step / np.sqrt((step**2).mean()) / np.sqrt(3)

    def spoil(lines: np.ndarray) -> np.ndarray:
        order = fft.ifftshift(np.arange(count))
        for axis in head.axes:
            # Centre-ordered lines: neighbours in time are neighbours in k-space.
            shift = _along(head, head.phase, moved[order, axis])
            turn = np.exp((-2j * np.pi * _along(head, axis, _frequencies(head, axis)) * shift).astype(np.complex64))
            lines = lines * turn
        return lines

    return reconstruct(head, spoil, random)


def ghost(head: Head, amount: float, random: np.random.Generator) -> Head:
    """Every other phase line is stronger: a ghost half a field of view away."""
    sign = 1 + amount * (-1.0) ** np.arange(head.volume.data.shape[head.phase])
    return reconstruct(head, lambda lines: lines * _along(head, head.phase, sign.astype(np.float32)), random)


def spike(head: Head, amount: float, random: np.random.Generator) -> Head:
    """One point of k-space too bright: stripes over the volume, or over one slice in five of a 2D scan."""
    point = [int(random.integers(n // 10, n // 2 - n // 10)) for n in head.volume.data.shape]
    voxels = float(np.prod([head.volume.data.shape[a] for a in head.axes]))

    def spoil(lines: np.ndarray) -> np.ndarray:
        index: list[int | slice] = [point[a] if a in head.axes else slice(None, None, 5) for a in range(3)]
        lines = lines.copy()
        lines[tuple(index)] += np.complex64(amount * head.level * voxels * np.exp(2j * np.pi * random.random()))
        return lines

    return reconstruct(head, spoil, random)


def low_snr(head: Head, amount: float, random: np.random.Generator) -> Head:
    """Complex noise up to a signal-to-noise ratio of the brain's median."""
    clean = reconstruct(head, lambda lines: lines, random)
    sigma = np.float32(head.level / amount)
    noise = random.standard_normal((2, *clean.volume.data.shape), dtype=np.float32) * sigma
    return head.with_data(np.hypot(clean.volume.data + noise[0], noise[1]))


def bias(head: Head, amount: float, random: np.random.Generator) -> Head:
    """A smooth field, linear and quadratic, whose range over the brain is `amount` of its median."""
    grids = [_along(head, a, np.linspace(-1, 1, n, dtype=np.float32)) for a, n in enumerate(head.volume.data.shape)]
    one, two = random.standard_normal(3), random.standard_normal(3)
    field = sum(np.float32(a) * g + np.float32(0.5 * b) * g**2 for a, b, g in zip(one, two, grids, strict=True))
    low, high = np.percentile(field[head.brain], [5, 95])
    factor = np.exp((field - np.float32(low)) / np.float32(high - low) * np.float32(2 * np.arcsinh(amount / 2)))
    factor /= np.median(factor[head.brain])
    return null(head.with_data(head.volume.data * factor), 0, random)


def dropout(head: Head, amount: float, random: np.random.Generator) -> Head:
    """Signal lost in a ball of brain with a soft edge."""
    spacing = head.volume.spacing
    step = [max(1, round(2 / s)) for s in spacing]
    inner = ndimage.distance_transform_edt(head.brain[:: step[0], :: step[1], :: step[2]], sampling=spacing * step)
    places = np.argwhere(inner > 0.7 * BALL_MM) * step
    centre = places[random.integers(len(places))]
    square = sum(
        (_along(head, a, (np.arange(n) - centre[a]) * spacing[a]).astype(np.float32)) ** 2
        for a, n in enumerate(head.volume.data.shape)
    )
    inside = 1 / (1 + np.exp(np.clip(np.sqrt(square) - BALL_MM, -50, 50)))
    return null(head.with_data(head.volume.data * (1 - np.float32(amount) * inside)), 0, random)


def blur(head: Head, amount: float, random: np.random.Generator) -> Head:
    """The outer k-space weakened by a Gaussian."""
    sigma = amount / 2.3548

    def spoil(lines: np.ndarray) -> np.ndarray:
        for axis in head.axes:
            lines = lines * _along(head, axis, np.exp(-2 * (np.pi * sigma * _frequencies(head, axis)) ** 2))
        return lines

    return reconstruct(head, spoil, random)


def zipper(head: Head, amount: float, random: np.random.Generator) -> Head:
    """A line of noise across phase at one place of the readout."""
    readout = next(a for a in head.axes if a != head.phase)
    size = head.volume.data.shape[readout]
    place = int(random.integers(size // 8, size - size // 8))
    clean = null(head, 0, random)
    index: list[int | slice] = [slice(None)] * 3
    index[readout] = slice(place, place + 2)
    part = clean.volume.data[tuple(index)]
    wave = random.standard_normal((2, *part.shape), dtype=np.float32) * np.float32(amount * head.level / np.sqrt(2))
    data = clean.volume.data.copy()
    data[tuple(index)] = np.hypot(part + wave[0], wave[1])
    return head.with_data(data)


def wrap(head: Head, amount: float, random: np.random.Generator) -> Head:
    """A field of view too small along phase: what lies outside is folded in on the other side."""
    data = np.moveaxis(head.volume.data, head.phase, 0)
    profile = data.sum(axis=(1, 2), dtype=np.float64)
    profile = np.maximum(profile - np.percentile(profile, 5), 0)
    length = len(profile)
    share = np.cumsum(profile) / profile.sum()
    keep = int(np.searchsorted(share, 1 - amount))
    first = int(np.searchsorted(share, 0.002))
    kept = data[first:keep].copy()
    rest = data[keep : min(length, keep + kept.shape[0])]
    kept[: rest.shape[0]] += rest
    brain = np.moveaxis(head.brain, head.phase, 0)[first:keep]
    affine = head.volume.affine.copy()
    affine[:3, 3] += affine[:3, head.phase] * first
    volume = replace(head.volume, data=np.ascontiguousarray(np.moveaxis(kept, 0, head.phase)), affine=affine)
    folded = replace(head, volume=volume, brain=np.ascontiguousarray(np.moveaxis(brain, 0, head.phase)))
    return null(folded, 0, random)


def cut_off(head: Head, amount: float, random: np.random.Generator) -> Head:
    """The field of view ends below the brain's vertex."""
    top = int(np.flatnonzero(head.brain.any(axis=(0, 1)))[-1]) + 1
    keep = max(2, top - max(1, round(amount / float(head.volume.spacing[2]))))
    volume = replace(head.volume, data=np.ascontiguousarray(head.volume.data[:, :, :keep]))
    return null(replace(head, volume=volume, brain=np.ascontiguousarray(head.brain[:, :, :keep])), 0, random)


ARTEFACTS: dict[str, Callable[[Head, float, np.random.Generator], Head]] = {
    "motion": motion, "ghost": ghost, "wrap": wrap, "spike": spike, "zipper": zipper, "low_snr": low_snr, "bias": bias,
    "dropout": dropout, "blur": blur, "cut_off": cut_off,
}  # fmt: skip
