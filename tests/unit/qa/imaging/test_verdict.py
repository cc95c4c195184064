"""Verdicts: three values, reasons that name side, value and limit, and limits that are data."""

from typing import Any

import pytest

from qa.imaging import exclusion
from qa.imaging.answers import CATALOGUE, answer, unknown
from qa.imaging.verdict import ThresholdError, check_protocol, judge, load_limits
from qa.model import Measure

LIMITS = load_limits()
SOUND = {
    "brain_volume_ml": 1500,
    "outside_signal_pct": 50,
    "brain_section_mm2": 17000,
    "mni_dice": 0.96,
    "mni_symmetry": 0.9,
    "mni_structure": 0.4,
    "pitch_deg": 13,
    "roll_deg": 1,
    "yaw_deg": 0,
    "noise_pct": 3,
    "bias_cv_pct": 5,
    "ghost_pct": 0.3,
    "motion_smear_pct": 0.1,
    "cjv": 0.5,
    "offset_x_mm": 2,
    "offset_y_mm": -10,
    "offset_z_mm": 5,
}
HEADER: dict[str, Any] = {
    "contrast": "T1w",
    "acquisition_dimension": "3D",
    "spacing_x_mm": 1.0,
    "spacing_y_mm": 1.0,
    "slice_thickness_mm": 1.0,
    "field_strength_t": 3.0,
    "echo_time_ms": 3.0,
    "missing_slices_count": 0,
}


def measures(**changes: float | None) -> dict[str, Measure]:
    values: dict[str, float | None] = {name: 0.0 for name in CATALOGUE} | SOUND | changes
    return {
        name: unknown(name, "not_measured", f"No {name}") if value is None else answer(name, value)
        for name, value in values.items()
    }


def test_a_sound_scan_passes() -> None:
    found = judge(measures(), HEADER, LIMITS)
    assert found.verdict.value == "pass"
    assert not found.troubles


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        ({"cut_area_posterior_mm2": 517}, "IMG_CUT_OFF", "occiput"),
        ({"cut_area_right_mm2": 411}, "IMG_CUT_OFF", "right side"),
        ({"cut_area_inferior_mm2": 1755}, "IMG_CUT_OFF", "from below"),
        ({"cut_area_superior_mm2": 500}, "IMG_CUT_OFF", "vertex"),
        ({"offset_z_mm": -70}, "IMG_POSITION", "70.0 mm below the isocentre"),
        ({"offset_x_mm": 34}, "IMG_POSITION", "34.0 mm to the patient's right"),
        ({"yaw_deg": 18}, "IMG_ROTATION", "to its left by 18 degrees"),
        ({"roll_deg": -15}, "IMG_ROTATION", "towards the left shoulder by 15 degrees"),
        ({"pitch_deg": 45}, "IMG_ROTATION", "back, nose up, by 32 degrees"),
        ({"noise_pct": 15}, "IMG_SNR", "15.0 %"),
        ({"cjv": 2.0}, "IMG_CONTRAST", "2.00"),
        ({"bias_cv_pct": 40}, "IMG_BIAS", "40 %"),
        ({"ghost_pct": 12}, "IMG_GHOST", "12.0 %"),
        ({"motion_smear_pct": 9}, "IMG_MOTION", "9.0 %"),
    ],
)
def test_each_fault_fails_with_its_rule_and_words(change: dict[str, float], rule: str, words: str) -> None:
    found = judge(measures(**change), HEADER, LIMITS).verdict
    assert found.value == "fail"
    assert found.rule_ids == (rule,)
    assert words in found.reasons[0]
    assert not found.is_refused


def test_brain_stem_at_the_lower_edge_is_fine() -> None:
    assert judge(measures(cut_area_inferior_mm2=473), HEADER, LIMITS).verdict.value == "pass"


def test_missing_slices_fail() -> None:
    found = judge(measures(), HEADER | {"missing_slices_count": 3}, LIMITS).verdict
    assert found.rule_ids == ("IMG_MISSING_SLICES",)
    assert "3 slices" in found.reasons[0]


def test_an_essential_unknown_is_undetermined_and_another_is_not() -> None:
    assert judge(measures(noise_pct=None), HEADER, LIMITS).verdict.value == "undetermined"
    assert judge(measures(offset_z_mm=None, cjv=None, yaw_deg=None), HEADER, LIMITS).verdict.value == "pass"


def test_a_fault_wins_over_an_unknown() -> None:
    found = judge(measures(noise_pct=None, yaw_deg=30), HEADER, LIMITS).verdict
    assert found.value == "fail"
    assert len(found.reasons) == 2


def test_not_a_head_is_refused_and_nothing_else_is_said() -> None:
    found = judge(measures(mni_symmetry=0.2, mni_structure=0.01, mni_dice=0.7, noise_pct=30), HEADER, LIMITS).verdict
    assert found.is_refused
    assert found.rule_ids == ("IMG_NOT_HEAD",)


def test_a_phantom_is_named_and_a_neck_is_left_open() -> None:
    ball = judge(measures(mni_dice=0.91, mni_structure=0.07, mni_symmetry=0.98), HEADER, LIMITS).verdict
    assert ball.rule_ids == ("IMG_PHANTOM",)
    neck = judge(measures(mni_dice=0.79, mni_structure=0.0, mni_symmetry=0.54), HEADER, LIMITS).verdict
    assert neck.value == "undetermined"
    assert "neck" in neck.reasons[0]


def test_half_a_head_is_cut_and_not_refused() -> None:
    found = judge(
        measures(
            mni_dice=0.8,
            mni_structure=0.3,
            cut_area_superior_mm2=15000,
        ),
        HEADER,
        LIMITS,
    ).verdict
    assert found.rule_ids == ("IMG_CUT_OFF",)
    assert not found.is_refused


@pytest.mark.parametrize("contrast", ["bold", "dwi"])
def test_functional_and_diffusion_are_undetermined(contrast: str) -> None:
    found = judge(measures(), HEADER | {"contrast": contrast}, LIMITS).verdict
    assert found.value == "undetermined"
    assert found.reasons == ("Measures for bold/dwi not available yet",)
    ball = judge(
        measures(mni_symmetry=0.96, mni_structure=0.01, mni_dice=0.7),
        HEADER | {"contrast": contrast},
        LIMITS,
    ).verdict
    assert ball.rule_ids == ("IMG_PHANTOM",)


def test_a_header_that_says_phantom_is_believed() -> None:
    found = judge(measures(), HEADER | {"is_header_phantom": True}, LIMITS).verdict
    assert found.is_refused
    assert found.rule_ids == ("IMG_PHANTOM",)


def test_unknown_contrast_is_undetermined_with_its_reason() -> None:
    found = judge(measures(), {"contrast": "unknown", "contrast_reason": "no echo time"}, LIMITS).verdict
    assert found.value == "undetermined"
    assert "no echo time" in found.reasons[0]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            {
                "contrast": "FLAIR",
                "acquisition_dimension": "2D",
                "slice_thickness_mm": 5.0,
            },
            "5.00 mm",
        ),
        ({"slice_thickness_mm": 2.0}, "2.00 mm in a 3D scan"),
        ({"spacing_x_mm": 1.4}, "1.40 mm"),
        ({"field_strength_t": 1.0}, "1 T"),
        ({"contrast": "FLAIR", "inversion_time_ms": 900.0}, "900 ms"),
        ({"contrast": "dwi", "slice_thickness_mm": 6.0}, "6.00 mm"),
    ],
)
def test_protocol_departures_are_named(header: dict[str, Any], words: str) -> None:
    series = HEADER | header
    troubles, _ = check_protocol(series, series["contrast"], LIMITS.protocol)
    assert words in troubles[0].text


@pytest.mark.parametrize("thick", ["spacing_x_mm", "spacing_y_mm", "spacing_z_mm"])
@pytest.mark.parametrize("thickness", [1.2, None])
def test_slices_of_any_orientation_are_not_taken_for_pixels(thick: str, thickness: float | None) -> None:
    spacings = {f"spacing_{axis}_mm": 1.0 for axis in "xyz"} | {thick: 1.2}
    series = HEADER | spacings | {"slice_thickness_mm": thickness}
    assert check_protocol(series, "T1w", LIMITS.protocol) == ([], [])
    coarse = {name: 1.4 * value for name, value in spacings.items()}
    troubles, _ = check_protocol(series | coarse | {"slice_thickness_mm": 1.68}, "T1w", LIMITS.protocol)
    assert "pixels of 1.40 mm" in troubles[0].text


def test_real_scanners_rounding_passes_and_missing_values_never_fail() -> None:
    series = HEADER | {
        "spacing_x_mm": 1.0156,
        "spacing_y_mm": 1.0156,
        "field_strength_t": 1.494,
    }
    assert check_protocol(series, "T1w", LIMITS.protocol) == ([], [])
    troubles, doubts = check_protocol({"contrast": "T1w"}, "T1w", LIMITS.protocol)
    assert not troubles
    assert doubts


def test_limits_are_overridden_by_name_and_change_their_hash() -> None:
    looser = load_limits({"noise": 20})
    assert judge(measures(noise_pct=15), HEADER, looser).verdict.value == "pass"
    assert looser.sha256 != LIMITS.sha256
    with pytest.raises(ThresholdError, match="does not exist"):
        load_limits({"noize": 20})
    with pytest.raises(ThresholdError, match="must be a number"):
        load_limits({"noise": "many"})


def test_every_limit_has_source_action_and_a_known_measure() -> None:
    for threshold in LIMITS.thresholds.values():
        assert threshold.measure in CATALOGUE or threshold.measure == exclusion.NAME
        assert threshold.source and threshold.action
        assert "{" not in threshold.sentence(1.0)
    for item in LIMITS.protocol.values():
        assert item.source
