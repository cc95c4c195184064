"""The brain mask of a head scan of any contrast.

Here: what happens to the image before and after the network (`qa.imaging.network`), one mask at a time on the home.
Not here: judging whether what was found is a brain (`qa.imaging.verdict`).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import ndimage

from qa.imaging.network import EDGE, onnx_path
from qa.imaging.types import Mask

METHOD_VERSION = "deepbet-1.0.2/1"
THREADS = 2
CLIP_QUANTILES = (0.005, 0.995)
MEAN, STANDARD_DEVIATION = 0.449, 0.226
"""The intensity scale deepbet was trained on."""
MARGIN = 0.1
MINIMUM_PROFILE = 0.02
"""A plane belongs to the brain's box when more than this share of it is brain."""


@contextmanager
def one_at_a_time(cache: Path) -> Iterator[None]:
    """Hold the home's mask lock: a mask takes about 2 GB, and two at once do not fit a small machine.

    The lock is the operating system's and goes with its process, so a killed worker blocks nobody.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "brain_mask.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(name: str, image: np.ndarray, cache: Path) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    # A thread that waits for the other one must leave the core to whoever else computes on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(onnx_path(name, cache)), options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["y"], {"x": image[None, None]})[0][0, 0]
    return result


def _resample_nearest(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    indices = [
        np.floor((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(image.shape, shape, strict=True)
    ]
    chosen: np.ndarray = image[np.ix_(*indices)]
    return chosen


def _normalise(image: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    scaled = (scaled - scaled.mean()) / max(float(scaled.std(ddof=1)), 1e-6)
    normal: np.ndarray = (scaled * STANDARD_DEVIATION + MEAN).astype(np.float32)
    return normal


def largest_component(mask: Mask) -> Mask:
    """The largest connected part of a mask (26 neighbours); an empty mask stays empty."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _box(small: Mask, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    box = []
    for axis, length in enumerate(shape):
        profile = small.mean(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(profile > MINIMUM_PROFILE)
        if inside.size == 0:
            return None
        scale = length / small.shape[axis]
        centre = round((inside[-1] + 1 + inside[0]) / 2 * scale)
        size = round((inside[-1] + 1 - inside[0]) * scale * (1 + 2 * MARGIN))
        box.append(slice(max(0, int(centre - size / 2)), min(length, int(centre + size / 2))))
    return tuple(box)


def brain_mask(image: np.ndarray, cache: Path) -> Mask:
    """Which voxels are brain, ventricles and sulcal fluid included.

    Parameters
    ----------
    image
        One volume in RAS orientation, any contrast and resolution, without NaN.
    cache
        Where the converted networks and the lock lie.

    Returns
    -------
    Boolean array of the image's shape; all False where the network sees no brain at all.

    Notes
    -----
    Fisch et al. 2024, deepbet (trained on T1w; Dice 0.96 on 2D FLAIR and T2w of MS patients too).
    """
    mask = np.zeros(image.shape, bool)
    small = _resample_nearest(image, (EDGE["bbox_model"],) * 3).astype(np.float32)
    low, high = (float(q) for q in np.quantile(small, CLIP_QUANTILES))
    if not high > low:
        return mask
    with one_at_a_time(cache):
        found = largest_component(_run("bbox_model", _normalise(small, low, high), cache) > 0.5)
        box = _box(found, image.shape)
        if box is None:
            return mask
        cropped = _normalise(_resample_nearest(image[box], (EDGE["model"],) * 3), low, high)
        fine = _run("model", cropped, cache) > 0.5
    inside = largest_component(_resample_nearest(fine, mask[box].shape))
    mask[box] = ndimage.binary_fill_holes(inside)
    return mask
