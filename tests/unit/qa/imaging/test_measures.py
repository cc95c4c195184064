"""Formulas on images whose truth is known: a synthetic head made of the MNI brain."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from qa.imaging import air, artefacts, atlas, head, picture, pose, tissue
from qa.imaging.answers import CATALOGUE
from qa.imaging.mask import _resample_nearest, eroded, largest_component
from qa.imaging.types import SIDES, Mask, Volume
from warehouse.policy import load_policy

SIGNAL = 1000.0
NOISE = 20.0


def rician(clean: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.hypot(
        clean + random.normal(0, sigma, clean.shape),
        random.normal(0, sigma, clean.shape),
    ).astype(np.float32)


def brain_at(rotation: np.ndarray | None = None, spacing: float = 2.0) -> tuple[Mask, np.ndarray]:
    """The MNI brain in a 240 mm cube, turned about its centre; and the cube's affine."""
    _, _, mni, mni_affine = atlas.mni()
    size = int(240 / spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-120, -135, -110]
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    centre = pose._centroid(mni, mni_affine)
    turned = (world - centre) @ (np.eye(3) if rotation is None else rotation) + centre
    back = np.linalg.inv(mni_affine)
    index = (turned @ back[:3, :3].T + back[:3, 3]).T
    inside = ndimage.map_coordinates(mni.astype(float), index, order=1) > 0.5
    return inside.reshape(size, size, size), affine


@pytest.fixture(scope="module")
def scan() -> tuple[Volume, Mask]:
    brain, affine = brain_at()
    scalp = ndimage.binary_dilation(brain, iterations=6)
    inner = ndimage.binary_erosion(brain, iterations=6)
    core = ndimage.binary_erosion(brain, iterations=14)
    clean = np.where(scalp & ~brain, 0.6, 0.0)
    clean[brain], clean[inner], clean[core] = 0.35, 0.7, 1.0
    return Volume(rician(clean * SIGNAL, NOISE), affine, np.full(3, 2.0)), brain


@pytest.mark.parametrize(
    ("axis", "name", "degrees"),
    [((1, 0, 0), "pitch", 15), ((0, 1, 0), "roll", -12), ((0, 0, 1), "yaw", 10)],
)
def test_a_planted_rotation_is_found(axis: tuple[int, ...], name: str, degrees: float) -> None:
    turn = pose._rotation(np.radians(degrees) * np.array(axis, float))
    brain, affine = brain_at(turn)
    found = pose.align(Volume(brain.astype(np.float32), affine, np.full(3, 2.0)), brain)
    assert found is not None
    assert found.dice > 0.95
    for angle in ("pitch", "roll", "yaw"):
        assert getattr(found, angle) == pytest.approx(degrees if angle == name else 0, abs=1.5)


def test_alignment_is_the_same_twice(scan: tuple[Volume, Mask]) -> None:
    first, second = pose.align(*scan), pose.align(*scan)
    assert first is not None and second is not None
    assert np.array_equal(first.matrix, second.matrix)


def test_a_ball_is_not_a_brain() -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(-110, 110, 110)] * 3, indexing="ij"))
    ball = (grid**2).sum(0) < 75**2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    found = pose.align(Volume(rician(ball * SIGNAL, NOISE), affine, np.full(3, 2.0)), ball)
    assert found is not None
    assert found.dice < 0.92
    assert found.structure < 0.08
    assert found.symmetry > 0.9


@pytest.mark.parametrize("side", SIDES)
def test_a_cut_names_its_side(scan: tuple[Volume, Mask], side: str) -> None:
    volume, brain = scan
    axis, is_high = SIDES.index(side) // 2, SIDES.index(side) % 2
    planes = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
    inset = 18
    data = volume.data.copy()
    outside = slice(planes[-1] - inset, None) if is_high else slice(None, planes[0] + inset)
    index = [slice(None)] * 3
    index[axis] = outside
    data[tuple(index)] = 0  # as distortion correction leaves it: the array goes on, the image does not
    kept = brain.copy()
    kept[tuple(index)] = False
    found = pose.coverage(replace(volume, data=data), kept)
    assert found.margin_mm[side] == 0
    assert found.cut_area_mm2[side] > 1000
    for other in set(SIDES) - {side}:
        assert found.cut_area_mm2[other] == 0


def test_noise_is_measured_to_a_tenth(scan: tuple[Volume, Mask]) -> None:
    volume, brain = scan
    inner = ndimage.binary_erosion(brain, iterations=16)
    assert artefacts.wavelet_noise(volume, inner, (0, 1, 2)) == pytest.approx(NOISE, rel=0.1)


def test_air_noise_is_undetermined_when_the_background_was_blanked(
    scan: tuple[Volume, Mask],
) -> None:
    volume, brain = scan
    around = head.surroundings(volume, brain)
    assert air.air_problem(around) is None
    found = {m.name: m for m in artefacts.noise_measures(volume, brain, around, (0, 1, 2), "x")}
    level = float(np.median(volume.data[brain]))
    assert found["air_noise_pct"].value == pytest.approx(100 * NOISE / level, rel=0.1)
    blanked = replace(volume, data=np.where(around.head, volume.data, 0).astype(np.float32))
    problem = air.air_problem(head.surroundings(blanked, brain))
    assert problem is not None
    assert problem.code == "background_blanked"


def test_a_ghost_raises_its_score(scan: tuple[Volume, Mask]) -> None:
    volume, brain = scan
    ghosted = replace(volume, data=volume.data + np.float32(0.1) * np.roll(volume.data, 60, axis=1))
    (sound, _), _ = artefacts.ghost_measure(volume, brain, head.surroundings(volume, brain), (0, 1, 2), "x")
    (found, likeness), axis = artefacts.ghost_measure(ghosted, brain, head.surroundings(ghosted, brain), (0, 1, 2), "x")
    assert sound.value is not None and abs(sound.value) < 0.5
    assert found.value is not None and found.value > 3
    assert likeness.value is not None and likeness.value > 0.8
    assert axis == "front-back"


def test_a_ghost_as_bright_as_the_head_that_leaves_no_air_is_found() -> None:
    brain, affine = brain_at()
    narrow = slice(14, 106)  # 184 mm wide: the ghost, half of that away, fills what air there is and meets the head
    brain = np.ascontiguousarray(brain[narrow])
    clean = np.where(ndimage.binary_dilation(brain, iterations=6), 0.6, 0.0)
    clean[brain] = 1.0
    ghosted = 0.85 * clean + 0.5 * np.roll(clean, brain.shape[0] // 2, axis=0)
    scores = []
    for picture_of in (clean, ghosted):
        volume = Volume(rician(picture_of * SIGNAL, NOISE), affine, np.full(3, 2.0))
        around = head.surroundings(volume, brain)
        scores.append(artefacts.ghost_measure(volume, brain, around, (0, 1, 2), "x"))
    assert scores[0][0][0].value is None or abs(scores[0][0][0].value) < 0.5
    assert scores[1][0][0].value is not None and scores[1][0][0].value > 30
    assert scores[1][1] == "left-right"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_are_filled_as_one_by_one(axis: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 24, 28)), 1.5) > 0.02
    one_by_one = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(mask, axis, 0)]
    assert np.array_equal(head._fill_planes(mask, axis), np.moveaxis(np.stack(one_by_one), 0, axis))


def test_the_bias_field_is_recovered(scan: tuple[Volume, Mask]) -> None:
    volume, brain = scan
    ramp = np.exp(np.linspace(-0.5, 0.5, volume.data.shape[1]))[None, :, None].astype(np.float32)
    biased = replace(volume, data=volume.data * ramp)
    plain = artefacts.bias_measure(head.bias_field(volume, brain), brain, "x").value
    found = artefacts.bias_measure(head.bias_field(biased, brain), brain, "x").value
    assert plain is not None and found is not None
    truth = 100 * float(
        np.broadcast_to(ramp, brain.shape)[brain].std() / np.broadcast_to(ramp, brain.shape)[brain].mean()
    )
    assert found > 0.6 * truth
    assert found > plain + 5


@pytest.mark.parametrize(
    ("contrast", "is_derived", "outside", "code"),
    [
        ("T1w", True, 0.5, "derived_image"),
        ("T1w", False, 0.0, "skull_stripped"),
        ("bold", False, 0.5, "contrast_unknown"),
    ],
)
def test_tissue_measures_say_why_there_are_none(
    scan: tuple[Volume, Mask], contrast: str, is_derived: bool, outside: float, code: str
) -> None:
    where = pose.align(*scan)
    reason = tissue.why_no_tissue(contrast, is_derived, outside, where)
    assert reason is not None and reason.code == code
    assert tissue.why_no_tissue("T1w", False, 0.5, where) is None
    assert tissue.why_no_tissue("T1w", False, 0.5, None) == tissue.NOT_ALIGNED


def test_the_picture_is_small_and_marks_the_cut_in_red(
    scan: tuple[Volume, Mask],
) -> None:
    import io

    from PIL import Image

    data = picture.mosaic(*scan, ("superior",))
    assert len(data) <= picture.BYTES_LIMIT
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3).astype(int)
    assert ((pixels[:, 0] > 200) & (pixels[:, 1] < 90) & (pixels[:, 2] < 90)).sum() > 100
    assert not Image.open(io.BytesIO(data)).info


def test_small_helpers() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1:3, 1:3, 1:3] = True
    mask[6, 6, 6] = True
    assert largest_component(mask).sum() == 8
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()
    assert _resample_nearest(np.arange(8).reshape(2, 2, 2), (4, 4, 4))[3, 3, 3] == 7
    assert all(kind.meaning.endswith(".") or ";" in kind.meaning for kind in CATALOGUE.values())


@pytest.mark.parametrize("steps", [1, 3])
def test_the_fast_erosion_is_the_general_one(steps: int) -> None:
    mask = np.random.default_rng(1).random((24, 20, 17)) < 0.93
    assert np.array_equal(eroded(mask, steps), ndimage.binary_erosion(mask, iterations=steps))


def test_thinning_axis_by_axis_gives_the_same_means() -> None:
    data = np.random.default_rng(1).random((31, 20, 26), dtype=np.float32)
    thinning = (slice(None, None, 3), slice(None, None, 1), slice(None, None, 2))
    expected = ndimage.uniform_filter(data, (3, 1, 2))[thinning]
    assert np.allclose(head.thinned(data, thinning), expected, atol=1e-6)


def test_the_warehouse_shows_measures_that_exist() -> None:
    assert set(load_policy().wide_measures) <= set(CATALOGUE)
