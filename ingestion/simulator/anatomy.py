"""The head that the simulated network scans.

Here: one averaged whole head from a wheel, completed below the face, as tissue maps in millimetres; lesions; signal of
a contrast. Not here: how a scanner sees it (`scanner`) or what goes wrong (`faults`). World axes are RAS, the origin is
the anterior commissure of MNI space.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from warehouse.errors import RanvierError
from warehouse.lake import temporary

Array = NDArray[np.float32]
SHAPE = (221, 271, 283)
ORIGIN_MM = np.array([-110.0, -150.0, -165.0])
"""World position of voxel (0, 0, 0); voxels are 1 mm."""
HEAD = (
    "niworkflows",
    "tests/data/testSpatialNormalizationRPTMovingWarpedImage.nii.gz",
    "17bee58a68a1b9e2770fd7abe8dd295f873ccac4994de13f43cbb968d9544460",
)
GREY = (
    "nilearn",
    "datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
)
WHITE = (
    "nilearn",
    "datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
    "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
)
VERSION = 2
"""Goes up with every change of what is built, so that no head of an older version is taken from a cache."""
MAPS = ("grey", "white", "fluid", "other", "sites")
SIGNAL = {
    # White matter of T1w and grey matter of FLAIR are 1; ratios as in 3 T MPRAGE and 3D FLAIR.
    "T1w": {"grey": 0.68, "white": 1.0, "fluid": 0.24, "other": 1.0, "lesion": 0.66},
    "FLAIR": {"grey": 1.0, "white": 0.80, "fluid": 0.12, "other": 0.80, "lesion": 1.45},
    # TR, TE and TI far off: fluid is not suppressed and grey and white matter hardly differ.
    "T1w_mistimed": {"grey": 0.80, "white": 0.82, "fluid": 0.75, "other": 0.8, "lesion": 0.85},
    "FLAIR_mistimed": {"grey": 0.80, "white": 0.72, "fluid": 1.10, "other": 0.8, "lesion": 0.95},
}


@dataclass(frozen=True)
class Anatomy:
    """Tissue maps, 0-255 for 0-1, on the 1 mm grid of `SHAPE`; `sites` are voxels (n, 3) where MS lesions arise."""

    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    fluid: NDArray[np.uint8]
    other: NDArray[np.uint8]
    sites: NDArray[np.int32]


def _packaged(package: str, inner: str, sha256: str) -> Path:
    """A data file of an installed package, found without importing it (niworkflows takes seconds).

    Raises RanvierError when the file is gone or another one.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / inner
        if path.is_file():
            if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                return path
            break
    raise RanvierError(
        f"The simulated head needs {inner} as {package} shipped it, and the installed {package} holds no such file; "
        "install the locked versions again with: uv sync --frozen"
    )


def _load(source: tuple[str, str, str]) -> Array:
    """One volume laid into the 1 mm grid of `SHAPE`; outside it is zero."""
    image: Any = nib.load(_packaged(*source))
    data = np.asarray(image.dataobj, dtype=np.float32)
    start = np.round(image.affine[:3, 3] - ORIGIN_MM).astype(int)
    out = np.zeros(SHAPE, np.float32)
    out[tuple(slice(s, s + n) for s, n in zip(start, data.shape, strict=True))] = data
    return out


def _distance_to(mask: NDArray[np.bool_]) -> Array:
    """Distance in mm to the mask, worked out at 2 mm: shapes here are smooth."""
    coarse = ndimage.distance_transform_edt(~mask[::2, ::2, ::2]).astype(np.float32) * 2
    fine = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    smooth: Array = ndimage.uniform_filter(fine, 3)
    return smooth


def _completed(head: NDArray[np.bool_], x: Array, y: Array, z: Array) -> NDArray[np.bool_]:
    """The head's outline with face, nose, chin and neck, where the averaged image has none."""

    def ellipsoid(cy: float, cz: float, ax: float, ay: float, az: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (x / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 < 1
        return inside

    face = ellipsoid(28, -52, 64, 60, 72) | ellipsoid(84, -44, 14, 18, 22) | ellipsoid(45, -95, 45, 38, 32)
    nape = -30 + (z + 72) * 0.15
    neck = (x / 60) ** 2 + ((y - nape) / 62) ** 2 < 1
    outline = head | face | (neck & (z < -50))
    rounded: NDArray[np.bool_] = ndimage.gaussian_filter(outline.astype(np.float32), 4, truncate=2) > 0.5
    return rounded


def _texture() -> Array:
    """Smooth random texture of flesh with standard deviation 1, made on an 8 mm grid."""
    coarse = np.random.default_rng(7).standard_normal([n // 8 + 2 for n in SHAPE], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, 1)
    fine: Array = coarse / coarse.std()
    for axis, n in enumerate(SHAPE):
        position = np.arange(n) / 8
        low = position.astype(int)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        fine = np.take(fine, low, axis) * (1 - weight) + np.take(fine, low + 1, axis) * weight
    return fine


@lru_cache(maxsize=1)
def load_anatomy(cache: Path | None = None) -> Anatomy:
    """The completed head; built in some seconds and kept in `cache` for the next process.

    Raises RanvierError when the wheels' files are gone or changed.
    """
    if cache is None:
        return _build()
    sources = "".join(source[2] for source in (HEAD, GREY, WHITE))
    name = hashlib.sha256(f"{VERSION} {sources}".encode()).hexdigest()[:16]
    kept = cache / f"simulated_head_{name}.npz"
    if not kept.exists():
        built = _build()
        with temporary(kept) as draft, draft.open("wb") as handle:
            np.savez(handle, **{name: getattr(built, name) for name in MAPS})
    with np.load(kept) as maps:
        return Anatomy(**{name: maps[name] for name in MAPS})


def _box(centre: tuple[float, float, float], reach: tuple[float, float, float]) -> tuple[slice, ...]:
    """The voxels of `SHAPE` within a distance in mm of a place on each axis."""
    box = []
    for middle, far, origin, n in zip(centre, reach, ORIGIN_MM, SHAPE, strict=True):
        low, high = middle - far - origin, middle + far - origin
        box.append(slice(max(0, int(np.floor(low))), min(n, int(np.ceil(high)) + 1)))
    return tuple(box)


def _build() -> Anatomy:
    image, grey, white = _load(HEAD), _load(GREY) / 255, _load(WHITE) / 255
    x, y, z = (
        np.arange(o, o + n, dtype=np.float32).reshape(shape)
        for n, o, shape in zip(SHAPE, ORIGIN_MM, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    smooth = ndimage.gaussian_filter(image, 1.5)
    labels, _ = ndimage.label(smooth > 60)
    real = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    in_plane = ndimage.generate_binary_structure(2, 1)[:, :, None]
    real = ndimage.binary_fill_holes(real, in_plane)
    brain = ndimage.binary_closing(ndimage.gaussian_filter(grey + white, 0.7) > 0.2, iterations=5)
    brain = ndimage.binary_fill_holes(brain, in_plane)
    away = _distance_to(brain)
    # The average keeps no scalp over the vertex.
    outline = _completed(real | ((away < 11) & (z > -30)), x, y, z)
    added = outline & (~real | (smooth < 40) & (z < -20) & (y > 20))
    # The seam runs over a centimetre, so that no edge shows where the averaged head ends.
    known = np.clip((_distance_to(added) - 2) / 9, 0, 1)

    depth = _distance_to(~outline)
    muscle = 0.5 + 0.05 * _texture()
    fat = np.clip(1 - np.abs(depth - 4) / 4, 0, 1)
    flesh = muscle * (1 - fat) + 0.95 * fat
    for cy, cz, ax, ay, az, level, sides in (
        (58, -42, 11, 26, 20, 0.05, (0,)),  # nasal cavity
        (22, -85, 10, 9, 34, 0.05, (0,)),  # pharynx and trachea
        (58, -36, 13, 13, 13, 0.22, (-32, 32)),  # eyes
        (-12, -110, 15, 12, 60, 0.30, (0,)),  # vertebral bodies
        (48, -95, 8, 26, 14, 0.35, (-36, 36)),  # mandible
        (66, -78, 34, 18, 5, 0.20, (0,)),  # teeth and palate
    ):
        for side in sides:
            box = _box((side, cy, cz), (1.12 * ax, 1.12 * ay, 1.12 * az))  # the weight is zero outside
            near_x, near_y, near_z = x[box[0]], y[:, box[1]], z[:, :, box[2]]
            inside = ((near_x - side) / ax) ** 2 + ((near_y - cy) / ay) ** 2 + ((near_z - cz) / az) ** 2
            weight = np.clip((1.25 - inside) * 2, 0, 1)
            flesh[box] = flesh[box] * (1 - weight) + level * weight
    level = float(np.median(image[white > 0.95]))
    other = np.where(outline, known * np.minimum(image / level, 1.4) + (1 - known) * flesh, 0)

    # Averaging over people blurs the skull away; bone has no signal. Below the skull's base it fades out.
    skull = np.exp(-(((away - 4.0) / 2.0) ** 2)) * np.clip((z + 55) / 20, 0, 1)
    scalp = np.exp(-(((depth - 2.5) / 2.0) ** 2)) * np.clip((z - 10) / 20, 0, 1)
    other = np.maximum(other * (1 - 0.8 * skull), 1.1 * scalp * outline)
    cord_y = -44 + (z + 72) * 0.1
    radius = np.sqrt(x**2 + ((y - cord_y) * 1.15) ** 2)
    below = np.clip((-66 - z) / 8, 0, 1)
    canal = np.clip(9 - radius, 0, 1) * below
    cord = np.clip(6 - radius, 0, 1) * below
    white = np.maximum(white, cord * 0.8)
    grey = np.maximum(grey, cord * 0.2)
    soft = np.maximum(ndimage.gaussian_filter(ndimage.binary_dilation(brain).astype(np.float32), 0.8), canal)
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    fluid = np.clip(soft - grey - white, 0, 1)
    other = np.clip(other * (1 - np.maximum(soft, np.minimum(grey + white, 1))) / 1.4, 0, 1)
    outline_soft = ndimage.gaussian_filter(outline.astype(np.float32), 0.8)
    other *= outline_soft

    ventricles = (fluid > 0.8) & (np.abs(x) < 35) & (y > -75) & (y < 45) & (z > -5) & (z < 35)
    near = _distance_to(ndimage.binary_opening(ventricles, iterations=2))
    sites = np.argwhere((near > 2) & (near < 11) & (white > 0.85) & (z > 2) & (np.abs(x) > 8)).astype(np.int32)
    bytes_of = {
        name: np.round(tissue * 255).astype(np.uint8)
        for name, tissue in {"grey": grey, "white": white, "fluid": fluid, "other": other}.items()
    }
    return Anatomy(**bytes_of, sites=sites)


def signal(anatomy: Anatomy, contrast: str, lesions: int, rng: np.random.Generator) -> Array:
    """The signal of a head with MS, white (T1w) or grey (FLAIR) matter being 1.

    `contrast` is a key of `SIGNAL`; `lesions` is how many periventricular ones (radius 2-6 mm) are laid in. The same
    generator state gives the same lesions in every contrast.
    """
    s = SIGNAL[contrast]
    out = anatomy.grey * np.float32(s["grey"] / 255)
    out += anatomy.white * np.float32(s["white"] / 255)
    out += anatomy.fluid * np.float32(s["fluid"] / 255)
    out += anatomy.other * np.float32(s["other"] * 1.4 / 255)
    for centre in anatomy.sites[rng.integers(0, len(anatomy.sites), lesions)]:
        radii = rng.uniform(2.0, 6.0) * rng.uniform(0.75, 1.3, 3)
        low = centre - 9
        box = tuple(slice(a, a + 19) for a in low)
        grid = np.ogrid[-9:10, -9:10, -9:10]
        inside = sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True))
        weight = np.clip((1.3 - inside) * 2, 0, 1) * (anatomy.white[box] / np.float32(255))
        out[box] = out[box] * (1 - weight) + np.float32(s["lesion"]) * weight
    return out
