"""MRIQC's metrics: equal to MRIQC's own functions on whole volumes, and right on a head whose tissue is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from qa.imaging import air, head, iqm, pose, tissue
from qa.imaging.answers import CATALOGUE
from qa.imaging.measure import ImageResult, measure_volume
from qa.model import Reason
from tests.unit.qa.imaging.heads import LEVELS, Phantom, phantom


@pytest.fixture(scope="module")
def subject() -> Phantom:
    return phantom(step=3)


@pytest.fixture(scope="module")
def classes(subject: Phantom) -> tissue.Tissue:
    where = pose.align(subject.volume, subject.brain)
    assert where is not None
    found = tissue.segment(subject.volume, subject.volume.data, subject.brain, where)
    assert isinstance(found, tissue.Tissue)
    return found


@pytest.fixture(scope="module")
def result(subject: Phantom) -> ImageResult:
    return measure_volume(subject.volume, subject.brain, {"contrast": "T1w", "acquisition_dimension": "3D"})


def _volumes(subject: Phantom, classes: tissue.Tissue) -> dict[str, np.ndarray]:
    whole = {}
    for name, share in zip(tissue.NAMES, classes.shares, strict=True):
        whole[name] = np.zeros(subject.brain.shape, np.float32)
        whole[name][subject.brain] = share
    return whole


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR", "PDw"])
def test_the_classes_are_the_tissues_whatever_their_order(contrast: str) -> None:
    subject = phantom(contrast, step=3)
    where = pose.align(subject.volume, subject.brain)
    assert where is not None
    found = tissue.segment(subject.volume, subject.volume.data, subject.brain, where)
    assert isinstance(found, tissue.Tissue)
    assert tissue.why_not_valid(found, contrast) is None
    # Fluid of a PDw is as bright as grey matter: only white matter stands apart there.
    for number, name in [(2, "wm")] if contrast == "PDw" else [(1, "gm"), (2, "wm")]:
        assert found.means[number] == pytest.approx(LEVELS[contrast][name], rel=0.15)
        planted, share = subject.shares[number][subject.brain] > 0.5, found.shares[number] > 0.5
        assert 2 * (planted & share).sum() / (planted.sum() + share.sum()) > 0.75


def test_a_contrast_that_is_not_what_it_says_has_no_tissue_measures() -> None:
    subject = phantom("T2w", step=3)
    found = {
        m.name: m
        for m in measure_volume(
            subject.volume, subject.brain, {"contrast": "FLAIR", "acquisition_dimension": "3D"}
        ).measures
    }
    assert found["cjv"].reason is not None and found["cjv"].reason.code == "classes_out_of_order"
    assert found["efc"].value is not None


def test_grey_and_white_alike_have_no_tissue_measures(subject: Phantom) -> None:
    flat = np.where(subject.brain, 700 + np.random.default_rng(0).normal(0, 60, subject.brain.shape), 0)
    volume = replace(subject.volume, data=flat.astype(np.float32))
    where = pose.align(volume, subject.brain)
    assert where is not None
    found = tissue.segment(volume, volume.data, subject.brain, where)
    reason = found if isinstance(found, Reason) else tissue.why_not_valid(found, "T1w")
    assert reason is not None and reason.code in ("contrast_too_low", "classes_empty")
    constant = tissue.segment(volume, np.ones_like(volume.data), subject.brain, where)
    assert isinstance(constant, Reason) and constant.code == "no_contrast"


def test_tissue_metrics_are_those_of_mriqc_on_whole_volumes(subject: Phantom, classes: tissue.Tissue) -> None:
    from mriqc.qc import anatomical

    whole = _volumes(subject, classes)
    data = iqm.scaled(subject.volume.data, subject.brain, classes)
    found = {m.name: m.value for m in iqm.tissue_metrics(data, subject.brain, classes, "x")}
    summary = anatomical.summary_stats(data, whole)
    for name in tissue.NAMES:
        for statistic, value in summary[name].items():
            assert found[f"summary_{name}_{statistic}"] == pytest.approx(value, rel=1e-4, abs=1e-3), statistic
    expected = anatomical.rpve([w.copy() for w in whole.values()], None)
    for name, value in expected.items():
        assert found[f"rpve_{name}"] == pytest.approx(value, rel=1e-3)
    for name, value in anatomical.volume_fraction(list(whole.values())).items():
        assert found[f"icvs_{name}"] == pytest.approx(value, rel=1e-5)
    assert sum(found[f"icvs_{n}"] or 0 for n in tissue.NAMES) == pytest.approx(1, abs=1e-5)


def test_qi_2_is_that_of_mriqc_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mriqc.qc import anatomical

    monkeypatch.chdir(tmp_path)
    noise = np.hypot(*np.random.default_rng(3).normal(0, 20, (2, 30, 30, 40)))
    np.random.seed(5)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    ours = air.qi_2(noise.ravel())
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    assert not list(tmp_path.iterdir())
    theirs, _ = anatomical.art_qi2(noise, np.ones(noise.shape), max_voxels=air.QI2_VOXELS, save_plot=False)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert air.qi_2(np.zeros(5000)) is None


@pytest.mark.slow
def test_the_artefact_mask_is_that_of_mriqc(subject: Phantom) -> None:
    from mriqc.interfaces.anatomical import artifact_mask  # eleven seconds

    data = subject.volume.data + 0.25 * np.roll(subject.volume.data, 40, axis=1)
    outside = ~ndimage.binary_dilation(subject.brain, iterations=6)
    distance = ndimage.distance_transform_edt(outside)
    distance = distance / distance.max()
    theirs = artifact_mask(data, outside, distance)
    ours = air.artefact_mask(data, outside, distance < air.NEAR_HEAD)
    assert theirs.sum() > 100
    assert np.array_equal(ours, theirs.astype(bool))


def test_a_ghost_raises_qi_1_and_air_metrics_have_values(subject: Phantom, result: ImageResult) -> None:
    sound = {m.name: m.value for m in result.measures}
    ghosted = replace(subject.volume, data=subject.volume.data + np.float32(0.25) * np.roll(subject.volume.data, 40, 1))
    around = head.surroundings(ghosted, subject.brain)
    where = pose.align(ghosted, subject.brain)
    assert where is not None
    hat = air.air_of(ghosted, around, where)
    found = {m.name: m.value for m in iqm.image_metrics(ghosted.data, around, hat, "x")}
    assert sound["qi_1"] is not None and sound["qi_1"] < 0.002
    assert found["qi_1"] is not None and found["qi_1"] > 0.02
    for name in ("snrd_total", "cnr", "fber", "qi_2", "summary_bg_mad"):
        assert sound[name] is not None, name


def test_a_blanked_background_leaves_air_metrics_undetermined(subject: Phantom) -> None:
    around = head.surroundings(subject.volume, subject.brain)
    blanked = replace(subject.volume, data=np.where(around.head, subject.volume.data, 0).astype(np.float32))
    found = {
        m.name: m
        for m in measure_volume(blanked, subject.brain, {"contrast": "T1w", "acquisition_dimension": "3D"}).measures
    }
    for name in (*iqm.AIR_NAMES, "fber", "qi_1", "qi_2", "air_noise_pct"):
        reason = found[name].reason
        assert reason is not None and reason.code == "background_blanked", name
    assert found["snr_wm"].value is not None and found["efc"].value is not None


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
def test_a_planted_smoothness_is_measured(fwhm: float) -> None:
    noise = np.random.default_rng(2).normal(0, 1, (70, 70, 70))
    smooth = ndimage.gaussian_filter(noise, fwhm / 2.3548, mode="wrap").astype(np.float32)
    mask = np.ones(smooth.shape, bool)
    # Smoothing the white noise of discrete voxels acts as a kernel a little wider than its nominal one.
    assert iqm.smoothness(smooth, mask, 1) == pytest.approx(fwhm, rel=0.06)
    # The correlation of smoothed noise is that of a kernel sqrt(2) as wide, which Forman's formula already undoes.


def test_every_metric_of_mriqc_is_in_the_catalogue(result: ImageResult) -> None:
    names = {m.name for m in result.measures}
    wanted = {*iqm.TISSUE_NAMES, *iqm.AIR_NAMES, "efc", "fber", "qi_1", "qi_2", "inu_med", "inu_range", "fwhm_avg"}
    assert wanted | {f"{k}_{a}" for k in ("fwhm", "size", "spacing") for a in "xyz"} <= names
    assert names == set(CATALOGUE)


def test_measuring_twice_gives_the_same_bits(subject: Phantom, result: ImageResult) -> None:
    again = measure_volume(subject.volume, subject.brain, {"contrast": "T1w", "acquisition_dimension": "3D"})
    assert again.measures == result.measures
    assert again.picture == result.picture


def test_the_unit_of_the_intensities_does_not_matter(subject: Phantom, result: ImageResult) -> None:
    large = replace(subject.volume, data=subject.volume.data * np.float32(1e6))
    found = measure_volume(large, subject.brain, {"contrast": "T1w", "acquisition_dimension": "3D"})
    for one, other in zip(result.measures, found.measures, strict=True):
        assert (one.value is None) == (other.value is None), one.name
        if one.value is not None:
            assert other.value == pytest.approx(one.value, rel=0.02, abs=0.02), one.name


@pytest.mark.parametrize("broken", ["constant", "empty", "speck"])
def test_what_cannot_be_measured_has_reasons_and_no_error(subject: Phantom, broken: str) -> None:
    data, brain = subject.volume.data.copy(), subject.brain
    if broken == "speck":
        brain = np.zeros_like(brain)
        brain[30:33, 30:33, 30:33] = True
    else:
        data[:] = 500 if broken == "constant" else 0
    found = measure_volume(replace(subject.volume, data=data), brain, {"contrast": "FLAIR"})
    known = {m.name: m for m in found.measures}
    assert set(known) == set(CATALOGUE)
    for name in ("cjv", "snr_wm", "cnr", "qi_1", "dropout_probability", "motion_probability"):
        assert known[name].reason is not None, name
