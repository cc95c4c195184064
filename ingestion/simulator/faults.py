"""What goes wrong with a scan: which faults there are, how strong they are, and what they do to k-space.

Here: the list of faults with the rules that should find them, and the ones made in k-space. Not here: faults of
geometry, noise and shading, which are numbers that `scanner` scans by (`Disturbance`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Complex = NDArray[np.complex64]

SOUND = "sound"
RULES = {
    "motion": ("IMG_MOTION", "IMG_GHOST"),
    "ghosting": ("IMG_GHOST", "IMG_MOTION"),
    "low_snr": ("IMG_SNR",),
    "strong_bias": ("IMG_BIAS",),
    "off_centre": ("IMG_POSITION",),
    "rotated": ("IMG_ROTATION",),
    "cut_off": ("IMG_CUT_OFF",),
    "missing_slices": ("IMG_MISSING_SLICES",),
    "wrong_protocol": ("IMG_PROTOCOL", "IMG_CONTRAST"),
    "private_name": ("DEID_PRIVATE",),
}
"""Kind of fault -> rules, any of which means that it was found. Motion between shots also makes ghosts, and the other
way round; a wrong protocol shows in the header or in the contrast."""
SEVERITIES = (1.0, 0.5, 0.75)


@dataclass(frozen=True)
class Disturbance:
    """What differs from a sound scan. Lengths in mm, angles in degrees; the defaults are a sound scan's."""

    noise_factor: float = 1.0
    bias_added: float = 0.0
    """Strength of shading beside the coil's own (`Scanner.bias`)."""
    table_shift_mm: float = 0.0
    """Along the bore: the whole scan lies off the isocentre."""
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Extra pitch, roll and yaw of the head."""
    frame_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Field of view moved against the head (right-left, back-front, foot-head), so that it cuts."""
    moves: int = 0
    move_mm: float = 0.0
    move_deg: float = 0.0
    ghost_rad: float = 0.0
    lost_slices: int = 0
    slice_factor: float = 1.0
    is_mistimed: bool = False
    leaks_name: bool = False


def disturbance(kind: str, severity: float | None, contrast: str, rng: np.random.Generator) -> Disturbance:
    """The disturbance that a kind of fault is at a severity from 0 to 1."""
    s = severity or 0.0
    sign = float(rng.choice((-1.0, 1.0)))
    choice = int(rng.integers(3))
    # The nod is judged from how heads lie at rest, with more room than the other two.
    angle, depth = 15 + 10 * s, 45 + 25 * s
    turns = ((sign * (angle + 6), 0.0, 0.0), (0.0, sign * angle, 0.0), (0.0, 0.0, sign * angle))
    cuts = ((0.0, 0.0, -depth - 5), (0.0, depth, 0.0), (sign * depth, 0.0, 0.0))
    if contrast == "FLAIR" and s < 0.7:
        protocol = Disturbance(is_mistimed=True)
    else:
        # 5 mm for FLAIR; a T1w of 2.4 to 3.3 mm is no 3D scan of the consensus either.
        protocol = Disturbance(slice_factor=4.2 if contrast == "FLAIR" else 2.0 + s, is_mistimed=s > 0.9)
    return {
        SOUND: Disturbance(),
        "motion": Disturbance(moves=3, move_mm=2.0 + 3.0 * s, move_deg=2.0 + 3.0 * s),
        "ghosting": Disturbance(ghost_rad=s),
        "low_snr": Disturbance(noise_factor=3.5 + 3.5 * s),
        "strong_bias": Disturbance(bias_added=0.3 + 0.35 * s),
        # Towards the feet: heads lie about a centimetre below the isocentre already.
        "off_centre": Disturbance(table_shift_mm=-(60 + 30 * s)),
        "rotated": Disturbance(turn_deg=turns[choice]),
        "cut_off": Disturbance(frame_shift_mm=cuts[choice]),
        "missing_slices": Disturbance(lost_slices=4 + round(8 * s)),
        "wrong_protocol": protocol,
        "private_name": Disturbance(leaks_name=True),
    }[kind]


def assign_lines(lines: int, states: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which state of the head each phase-encoding line (centre in the middle) was measured in.

    Lines are measured in order; the head moves at random times, once near the centre, where a
    move shows most.
    """
    if states == 1:
        return np.zeros(lines, np.intp)
    centre = lines // 2
    near = centre + int(rng.integers(3, max(4, lines // 24))) * int(rng.choice((-1, 1)))
    times = [near, *(int(t) for t in rng.integers(lines // 6, lines - lines // 6, max(0, states - 2)))]
    return np.searchsorted(np.sort(times), np.arange(lines), side="right").astype(np.intp)


def measure(states: Iterable[Complex], axis: int, wanted: Disturbance, rng: np.random.Generator) -> Complex:
    """The image of a head measured line by line along a phase axis; `wanted.moves + 1` states of it, taken one by one.

    Every scan, sound or not, goes through k-space and back, so that nothing but the fault tells them apart.
    """
    kspace: Complex | None = None
    state_of: NDArray[np.intp] | None = None
    for i, state in enumerate(states):
        lines = state.shape[axis]
        moved = fft.fft(state, axis=axis, overwrite_x=True)
        if kspace is None or state_of is None:
            kspace, state_of = moved, np.fft.ifftshift(assign_lines(lines, wanted.moves + 1, rng))
        else:
            where: list[slice | NDArray[np.bool_]] = [slice(None)] * 3
            where[axis] = state_of == i
            kspace[tuple(where)] = moved[tuple(where)]
    if kspace is None:
        raise ValueError("a scan needs at least one state of the head")
    if wanted.ghost_rad:
        phase = np.zeros(kspace.shape[axis], np.float32)
        phase[1::2] = wanted.ghost_rad
        kspace *= np.exp(1j * phase).astype(np.complex64).reshape([-1 if a == axis else 1 for a in range(3)])
    image: Complex = fft.ifft(kspace, axis=axis, overwrite_x=True)
    return image
