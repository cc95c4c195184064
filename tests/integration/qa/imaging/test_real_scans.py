"""Real scans: which pass, which fail and for which side, what is not a head. Skipped where the scans are not."""

import os
import subprocess
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from qa.imaging.measure import ImageResult, measure_image
from qa.imaging.verdict import judge, load_limits
from qa.model import Verdict

DATA = Path(os.environ.get("RANVIER_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not DATA.is_dir(),
        reason="the real scans (RANVIER_TEST_DATA) are not on this machine",
    ),
]
POSITIONS = "siemens_prisma_positioning/{}_t1_fl2d_sag.dicom.tar.xz"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def convert(source: Path, folder: Path) -> Path:
    """Any NIfTI of a DICOM folder or tar.xz, made by the converter that ingestion uses."""
    if source.suffix == ".xz":
        with tarfile.open(source) as archive:
            archive.extractall(folder / "dicom", filter="data")
        source = folder / "dicom"
    tool = Path(sysconfig.get_path("scripts")) / "dcm2niix"
    subprocess.run(
        [tool, "-ba", "y", "-z", "y", "-f", "scan", "-o", folder, source],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("scan*.nii.gz"))


def judged(path: Path, cache: Path, **header: Any) -> tuple[ImageResult, Verdict]:
    zooms = [float(z) for z in nib.load(path).header.get_zooms()[:3]]  # type: ignore[attr-defined]
    series = {
        "contrast": "T1w",
        "spacing_x_mm": zooms[0],
        "spacing_y_mm": zooms[1],
        "spacing_z_mm": zooms[2],
    } | header
    result = measure_image(path, series, cache)
    return result, judge({m.name: m for m in result.measures}, series, load_limits()).verdict


@pytest.mark.parametrize(
    ("position", "sides"),
    [
        ("HFS", ()),
        ("HFP", ("occiput",)),
        ("HFDL", ("right side", "from below")),
        ("HFDR", ("from below",)),
    ],
)
def test_decubitus_series_name_the_side_that_is_cut(
    position: str, sides: tuple[str, ...], cache: Path, tmp_path: Path
) -> None:
    path = convert(DATA / POSITIONS.format(position), tmp_path)
    result, verdict = judged(path, cache, acquisition_dimension="2D", is_isocentre_known=True)
    assert len(result.picture) <= 150_000
    if not sides:
        assert verdict.value == "pass"
        return
    assert verdict.value == "fail"
    assert "IMG_CUT_OFF" in verdict.rule_ids
    assert not verdict.is_refused
    for side in sides:
        assert any(side in reason for reason in verdict.reasons)
    angles = [m for m in result.measures if m.name in ("pitch_deg", "roll_deg", "yaw_deg")]
    assert all(m.reason is not None and m.reason.code == "brain_cut" for m in angles)


def test_a_watermelon_is_refused(cache: Path, tmp_path: Path) -> None:
    path = convert(DATA / "t1_ge_hdxt_fruit_deident" / "dicom_80slices.tar.xz", tmp_path)
    _, verdict = judged(path, cache, acquisition_dimension="3D")
    assert verdict.is_refused
    assert verdict.rule_ids == ("IMG_NOT_HEAD",)


@pytest.mark.parametrize(
    "folder",
    [
        "siemens_prisma_dwi_fmri/dicom_xa30_enhanced_phantom",
        "dwi_ge_pioneer_phantom/dicom",
    ],
)
def test_phantoms_are_refused_and_a_head_is_not(folder: str, cache: Path, tmp_path: Path) -> None:
    _, verdict = judged(convert(DATA / folder, tmp_path), cache, contrast="dwi")
    assert verdict.is_refused


def test_a_diffusion_head_is_undetermined(cache: Path, tmp_path: Path) -> None:
    _, verdict = judged(
        convert(DATA / "siemens_prisma_dwi_fmri/dicom_dwi_mosaic", tmp_path),
        cache,
        contrast="dwi",
    )
    assert verdict.value == "undetermined"
    assert verdict.reasons == ("Measures for bold/dwi not available yet",)


def test_a_philips_head_passes_and_its_blanked_air_has_a_reason(cache: Path, tmp_path: Path) -> None:
    path = convert(DATA / "t1w_philips_elitionx" / "dicom", tmp_path)
    result, verdict = judged(path, cache, acquisition_dimension="3D", is_isocentre_known=True)
    assert verdict.value == "pass"
    found = {m.name: m for m in result.measures}
    assert found["snrd_total"].reason is not None
    assert found["snrd_total"].reason.code == "background_blanked"
    assert found["snr_total"].value is not None and 5 < found["snr_total"].value < 15
    # Against a naive chain at full resolution (Atropos): snr_total 8.68, efc 0.656, wm2max 0.547, white matter 0.38.
    assert found["snr_total"].value == pytest.approx(8.68, rel=0.08)
    assert found["efc"].value == pytest.approx(0.656, rel=0.08)
    assert found["wm2max"].value == pytest.approx(0.547, rel=0.08)
    assert found["icvs_wm"].value == pytest.approx(0.38, abs=0.03)
    assert found["gm_nawm_ratio"].value == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("contrast", ["T1W", "T2W", "FLAIR"])
def test_a_patients_scans_are_measured(contrast: str, cache: Path) -> None:
    path = DATA / "ms_open_ms_data" / "longitudinal" / "patient01" / "raw" / f"study1_{contrast}.nii.gz"
    result, verdict = judged(path, cache, contrast=contrast.replace("W", "w"), acquisition_dimension="2D")
    found = {m.name: m.value for m in result.measures}
    assert found["mni_dice"] is not None and found["mni_dice"] > 0.94
    assert found["noise_pct"] is not None
    assert not verdict.is_refused
    # Two-dimensional spin echo: three classes without the template called 58 % of the brain white matter.
    assert found["icvs_wm"] is not None and 0.35 < found["icvs_wm"] < 0.45
    assert found["csf_wm_ratio"] is not None and (found["csf_wm_ratio"] > 1) == (contrast == "T2W")
    tilt = found["slice_tilt_deg"]
    assert tilt is None or abs(tilt) < 5
    if contrast == "FLAIR":
        assert found["nawm_lesion_ratio"] is not None and 0.4 < found["nawm_lesion_ratio"] < 0.8
    if contrast == "T1W":  # 39 slices of 3 mm do not reach over the brain
        assert any("vertex" in reason for reason in verdict.reasons)


def test_half_a_real_head_is_cut_and_never_refused(cache: Path, tmp_path: Path) -> None:
    image: Any = nib.as_closest_canonical(  # type: ignore[no-untyped-call]
        nib.load(convert(DATA / POSITIONS.format("HFS"), tmp_path))  # type: ignore[attr-defined]
    )
    half = tmp_path / "half.nii.gz"
    nib.save(image.slicer[:, :, : image.shape[2] // 2], half)  # type: ignore[attr-defined]
    _, verdict = judged(half, cache, acquisition_dimension="2D")
    assert verdict.value == "fail"
    assert not verdict.is_refused
    assert any("vertex" in reason for reason in verdict.reasons)
