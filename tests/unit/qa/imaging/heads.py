"""A head of known tissue for the tests of image measures: the template's maps as intensities, scalp and noisy air.

Here: phantoms built from the template maps that nilearn ships. Not here: any check.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qa.imaging.atlas import template
from qa.imaging.types import Mask, Volume

LEVELS = {
    "T1w": {"csf": 250.0, "gm": 680.0, "wm": 1000.0, "scalp": 900.0},
    "FLAIR": {"csf": 130.0, "gm": 1000.0, "wm": 800.0, "scalp": 700.0},
    "T2w": {"csf": 1800.0, "gm": 700.0, "wm": 450.0, "scalp": 500.0},
    "PDw": {"csf": 1050.0, "gm": 1000.0, "wm": 800.0, "scalp": 600.0},
}
PAD = ((20, 20), (20, 20), (10, 20))


@dataclass(frozen=True)
class Phantom:
    """A volume, its brain, and the tissue shares (csf, gm, wm) that it was made of."""

    volume: Volume
    brain: Mask
    shares: np.ndarray
    clean: np.ndarray


def rician(clean: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    real, imaginary = (random.normal(0, sigma, clean.shape) for _ in range(2))
    return np.hypot(clean + real, imaginary).astype(np.float32)


def phantom(contrast: str = "T1w", noise: float = 25.0, step: int = 2) -> Phantom:
    """The template's brain with a scalp around it, one voxel for each `step` mm, in air with Rician noise."""
    image = template("t1")
    maps = {k: np.pad(np.asarray(template(k).dataobj, np.float32), PAD) / 255 for k in ("t1", "gm", "wm")}
    thin = (slice(None, None, step),) * 3
    grey, white = maps["gm"][thin], maps["wm"][thin]
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(maps["t1"][thin] > 0, iterations=2))
    fluid = np.where(brain, np.clip(1 - grey - white, 0, 1), 0)
    shares = np.stack([fluid, grey * brain, white * brain]).astype(np.float32)
    levels = LEVELS[contrast]
    clean = sum(levels[name] * share for name, share in zip(("csf", "gm", "wm"), shares, strict=True))
    distance = ndimage.distance_transform_edt(~brain) * step
    clean = np.where((distance > 4) & (distance < 14), levels["scalp"], clean)
    affine = np.asarray(image.affine, float)
    affine[:3, 3] -= affine[:3, :3] @ np.array([low for low, _ in PAD], float)
    affine[:3, :3] *= step
    return Phantom(Volume(rician(clean, noise), affine, np.full(3, float(step))), brain, shares, clean)
