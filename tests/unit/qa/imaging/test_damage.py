"""Artefact scores, planning and tissue contrast on a phantom with one thing planted at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import fft, ndimage

from qa.imaging import contrast, damage, head, likely, planning, pose, tissue
from qa.imaging.answers import answer, unknown
from qa.imaging.mriqc_format import write
from qa.imaging.types import Volume
from qa.model import Measure
from tests.unit.qa.imaging.heads import Phantom, phantom, rician

AXES = (0, 1, 2)


@pytest.fixture(scope="module")
def subject() -> Phantom:
    return phantom(step=3)


@pytest.fixture(scope="module")
def where(subject: Phantom) -> pose.Pose:
    found = pose.align(subject.volume, subject.brain)
    assert found is not None
    return found


def changed(subject: Phantom, data: np.ndarray) -> Volume:
    return replace(subject.volume, data=np.ascontiguousarray(data, dtype=np.float32))


def value(measure: Measure) -> float:
    assert measure.value is not None, measure.reason
    return measure.value


def test_a_spike_of_k_space_stands_out(subject: Phantom) -> None:
    lines = fft.fftn(subject.volume.data)
    lines[20, 25, 15] += 0.05 * 700 * subject.volume.data.size
    striped = changed(subject, np.abs(fft.ifftn(lines)))
    sound = value(damage.spike_score(subject.volume, AXES, "x"))
    assert sound < 8
    assert value(damage.spike_score(striped, AXES, "x")) > 3 * sound


def test_a_zipper_is_a_plane_of_bright_air(subject: Phantom) -> None:
    around = head.surroundings(subject.volume, subject.brain)
    data = subject.volume.data.copy()
    data[:, 30, :] += np.random.default_rng(0).rayleigh(120, data[:, 30, :].shape)
    sound = value(damage.zipper_score(subject.volume, subject.brain, around, AXES, "x"))
    found = value(damage.zipper_score(changed(subject, data), subject.brain, around, AXES, "x"))
    assert sound < 1 < 5 < found


def test_a_folded_head_continues_across_the_seam(subject: Phantom) -> None:
    planes = np.flatnonzero(subject.brain.any(axis=(0, 2)))
    low, high = int(planes[0]) - 3, int(planes[-1]) - 5
    cut = subject.volume.data[:, low:high].copy()
    rest = subject.volume.data[:, high : high + 14]
    cut[:, : rest.shape[1]] += rest
    volume, brain = changed(subject, cut), np.ascontiguousarray(subject.brain[:, low:high])
    around = head.surroundings(volume, brain)
    sound = head.surroundings(subject.volume, subject.brain)
    assert value(damage.wrap_score(subject.volume, subject.brain, sound, AXES, "x")) == 0
    assert value(damage.wrap_score(volume, brain, around, AXES, "x")) > 5


def test_a_lost_region_and_a_lost_slice_are_found(subject: Phantom, where: pose.Pose) -> None:
    grid = np.indices(subject.brain.shape) * 3.0
    centre = np.argwhere(subject.brain).mean(axis=0) * 3 + [30, 0, 20]
    ball = ((grid - centre[:, None, None, None]) ** 2).sum(axis=0) < 14**2
    lost = np.where(ball, 0.6, 1.0) * subject.volume.data
    sound = value(damage.dropout_score(subject.volume, where, subject.volume.data, "x"))
    found = value(damage.dropout_score(changed(subject, lost), where, lost.astype(np.float32), "x"))
    assert found > sound + 10
    data = subject.volume.data.copy()
    middle = data.shape[2] // 2
    data[:, :, middle] *= 0.7
    sliced = replace(changed(subject, data), spacing=np.array([3.0, 3.0, 3.1]))
    assert value(damage.slice_drop_score(sliced, subject.brain, "x")) == pytest.approx(30, abs=6)


def test_blur_widens_the_edges_step_by_step(subject: Phantom) -> None:
    widths = []
    for fwhm in (0.0, 4.0, 8.0):
        smooth = ndimage.gaussian_filter(subject.clean, fwhm / 2.3548 / 3)
        widths.append(value(damage.edge_width(changed(subject, rician(smooth, 10)), subject.brain, AXES, "x")))
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]


def test_brain_taken_away_is_counted(subject: Phantom, where: pose.Pose) -> None:
    assert value(damage.missing_brain(subject.volume, subject.brain, where, "x")) == 0
    data = subject.volume.data.copy()
    front = int(np.flatnonzero(subject.brain.any(axis=(0, 2)))[-1])
    data[:, front - 9 :, :] = 0
    assert value(damage.missing_brain(changed(subject, data), subject.brain, where, "x")) > 20


def test_slices_along_the_template_are_tilted_by_its_own_line(subject: Phantom, where: pose.Pose) -> None:
    thick = replace(subject.volume, spacing=np.array([3.0, 3.0, 4.0]))
    # The template's line falls by 10 mm over 60 mm towards the front.
    assert planning.slice_tilt(thick, where, False, "x").value == pytest.approx(9.5, abs=1.5)
    for is_cut, volume, code in ((True, thick, "brain_cut"), (False, subject.volume, "not_axial")):
        reason = planning.slice_tilt(volume, where, is_cut, "x").reason
        assert reason is not None and reason.code == code


def test_room_and_stretch(subject: Phantom, where: pose.Pose) -> None:
    found = pose.coverage(subject.volume, subject.brain)
    rooms = {m.name: m.value or 0 for m in planning.room(subject.volume, where, found, "x")}
    assert rooms["vertex_room_mm"] > 0 > rooms["cord_room_mm"]
    stretched = np.diag([1.0, 1.2, 1.0, 1.0]) @ where.matrix
    assert planning.axis_scales(stretched).max() / planning.axis_scales(where.matrix).max() == pytest.approx(1.2, 0.03)


@pytest.mark.parametrize(
    ("image_type", "dimensions"),
    [("ORIGINAL\\PRIMARY\\M\\DIS2D", 2), ("ORIGINAL\\PRIMARY\\M\\ND", 0), ("ORIGINAL", None)],
)
def test_gradient_correction_is_read_from_the_header(image_type: str, dimensions: float | None) -> None:
    assert planning.gradient_correction(image_type, "x").value == dimensions


def test_grey_white_and_lesion_contrast() -> None:
    for name in ("T1w", "FLAIR"):
        subject = phantom(name, noise=15, step=3)
        data = subject.volume.data.copy()
        where = pose.align(subject.volume, subject.brain)
        assert where is not None
        if name == "FLAIR":
            white = np.argwhere(ndimage.binary_erosion(subject.shares[2] > 0.95, iterations=2))
            for x, y, z in white[:: len(white) // 6]:
                data[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 1600
        classes = tissue.segment(subject.volume, data, subject.brain, where)
        assert isinstance(classes, tissue.Tissue)
        found = {m.name: m for m in contrast.ms_contrast(subject.volume, data, subject.brain, classes, name, "x")}
        if name == "T1w":
            assert value(found["gm_nawm_ratio"]) == pytest.approx(0.68, rel=0.1)
            reason = found["lesion_ml"].reason
            assert reason is not None and reason.code == "other_contrast"
        else:
            assert value(found["nawm_lesion_ratio"]) == pytest.approx(0.5, rel=0.1)
            assert value(found["nawm_lesion_contrast"]) == pytest.approx(2 / 3, rel=0.15)


@pytest.mark.parametrize("name", ["T1w", "T2w"])
def test_fluid_against_white_matter_tells_the_contrast(name: str) -> None:
    subject = phantom(name)
    where = pose.align(subject.volume, subject.brain)
    assert where is not None
    classes = tissue.segment(subject.volume, subject.volume.data, subject.brain, where)
    told = value(contrast.label_measure(subject.volume.data, subject.brain, classes, "x"))
    assert told < 0.8 if name == "T1w" else told > 1.5


def test_probabilities_need_their_scores_and_rise_with_them() -> None:
    names = {name for model in likely.models().values() for name in model.weights}
    low = {name: answer(name, 0.1) for name in names}
    for artefact, main in (("ghost", "ghost_pct"), ("spike", "spike_ratio"), ("low_snr", "noise_pct")):
        high = low | {main: answer(main, 60.0)}
        less, more = (
            {m.name: m for m in likely.probabilities(scores, "x")}[f"{artefact}_probability"] for scores in (low, high)
        )
        assert value(more) > value(less)
    blank = low | {"motion_smear_pct": unknown("motion_smear_pct", "no_air", "No air")}
    reason = {m.name: m for m in likely.probabilities(blank, "x")}["motion_probability"].reason
    assert reason is not None and reason.code == "no_air"


def test_metrics_are_written_as_mriqc_reads_them(tmp_path: Path) -> None:
    import pandas as pd
    from mriqc.utils.misc import generate_tsv

    rows = [{"measure": n, "value": v} for n, v in (("efc", 0.5), ("cjv", 0.4), ("size_x", 256.0), ("snrd_wm", None))]
    path = "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"
    written = write(tmp_path, [{"bids_path": path, "contrast": "T1w", "measures": rows}])
    assert [p.name for p in written] == ["sub-01_ses-01_T1w.json", "group_T1w.tsv"]
    ours = pd.read_csv(written[1], sep="\t")
    theirs, _ = generate_tsv(tmp_path, "T1w")
    assert set(theirs.columns) == set(ours.columns) == {"bids_name", "efc", "cjv", "size_x"}
    assert theirs.iloc[0]["cjv"] == ours.iloc[0]["cjv"] == 0.4
