"""Headers made here, read and classified: no patient data is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ingestion.imaging.classify import Facts, classify, classify_name, contrast_of
from ingestion.imaging.index import index_files
from ingestion.imaging.model import ImageFile
from ingestion.imaging.settings import load

MR = "1.2.840.10008.5.1.4.1.1.4"


def _write(path: Path, sop_class: str = MR, modality: str = "MR", **values: object) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = values.pop("uid", None) or generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.Modality = modality
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 16, 16, 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    for name, value in values.items():
        setattr(ds, name, value)
    ds.PixelData = np.zeros((16, 16), np.uint16).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def _index(*paths: Path) -> dict[int, dict[str, object]]:
    files = [ImageFile(path, number, "", path.stat().st_size) for number, path in enumerate(paths, 1)]
    return {row["file_number"]: row for row in index_files(files).iter_rows(named=True)}


def test_each_broken_file_is_refused_alone(tmp_path: Path) -> None:
    sound = _write(tmp_path / "sound_without_ending", SeriesDescription="t1_mprage")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(sound.read_bytes()[:-100])
    header = tmp_path / "header.dcm"
    header.write_bytes(sound.read_bytes()[:150])
    text = tmp_path / "notes.dcm"
    text.write_text("not an image")
    rows = _index(sound, cut, header, text)
    assert rows[1]["reason_code"] is None and rows[1]["series_description"] == "t1_mprage"
    assert rows[2]["reason_code"] == "truncated"
    assert rows[3]["reason_code"] in ("truncated", "unreadable_dicom")
    assert (rows[4]["kind"], rows[4]["reason_code"]) == ("other", "unknown_file")


def test_second_copy_of_an_instance_is_a_duplicate(tmp_path: Path) -> None:
    first, second = (_write(tmp_path / name, uid="1.2.3.4.5") for name in ("a", "b"))
    rows = _index(first, second)
    assert [rows[1]["reason_code"], rows[2]["reason_code"]] == [None, "duplicate"]


@pytest.mark.parametrize(
    ("sop_class", "modality", "code"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", "SR", "not_mr"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR", "not_mr"),
        ("1.2.840.10008.5.1.4.1.1.7", "MR", "secondary_capture"),
        ("1.2.840.10008.1.3.10", "", "dicomdir"),
        ("1.2.840.10008.5.1.4.1.1.4.2", "MR", "not_an_image"),
    ],
)
def test_what_is_no_mr_image_is_refused(tmp_path: Path, sop_class: str, modality: str, code: str) -> None:
    assert _index(_write(tmp_path / "x", sop_class, modality))[1]["reason_code"] == code


def test_text_burned_into_the_image_is_refused(tmp_path: Path) -> None:
    assert _index(_write(tmp_path / "x", BurnedInAnnotation="YES"))[1]["reason_code"] == "burned_in_text"


@pytest.mark.parametrize(
    ("description", "extra", "contrast"),
    [
        ("t1_mprage_sag", {}, "T1w"),
        ("t2_tse_tra", {}, "T2w"),
        ("t2_space_dark-fluid", {}, "FLAIR"),
        ("T2 FLAIR", {}, "FLAIR"),
        ("Sag T1 FLAIR", {"InversionTime": 900}, "T1w"),
        ("localizer_3plane", {}, "localizer"),
        ("pd+t2_tse", {"EchoTime": 12}, "PDw"),
        ("pd+t2_tse", {"EchoTime": 90}, "T2w"),
        ("t2_tse cervical spine", {}, "other"),
        ("tof_fl3d", {}, "angio"),
        ("serie 4", {"ScanningSequence": "SE", "EchoTime": 100, "RepetitionTime": 5000}, "T2w"),
        ("serie 4", {"ScanningSequence": "SE", "EchoTime": 15, "RepetitionTime": 600}, "T1w"),
        (
            "serie 4",
            {"ScanningSequence": "SE", "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500},
            "FLAIR",
        ),
        ("serie 4", {}, "unknown"),
        (
            "func_task-x",
            {"ScanningSequence": "GR", "EchoTime": 30, "RepetitionTime": 2000, "EchoTrainLength": 43},
            "bold",
        ),
    ],
)
def test_contrast_from_words_and_parameters(
    tmp_path: Path, description: str, extra: dict[str, object], contrast: str
) -> None:
    row = _index(_write(tmp_path / "x", SeriesDescription=description, **extra))[1]
    assert classify(row, None).contrast == contrast


def test_derived_flag_of_a_converter_is_ignored(tmp_path: Path) -> None:
    kind = {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "anat-T1w"}
    made = _index(_write(tmp_path / "a", ManufacturerModelName="nifti2dicom", **kind))[1]
    scanner = _index(_write(tmp_path / "b", ManufacturerModelName="Achieva", **kind))[1]
    assert not classify(made, None).is_derived
    assert classify(scanner, None).is_derived


def test_only_clear_words_make_a_phantom(tmp_path: Path) -> None:
    assert classify(_index(_write(tmp_path / "a", StudyDescription="ACR Phantom"))[1], None).is_header_phantom
    assert not classify(_index(_write(tmp_path / "b", StudyDescription="QA brain"))[1], None).is_header_phantom


def test_file_names() -> None:
    assert classify_name("study1_FLAIR")[0] == "FLAIR"
    assert classify_name("study2_t1w")[0] == "T1w"
    assert classify_name("T1POST_N4_brain") == ("T1w", "the file name says so", True)
    assert classify_name("image01")[0] == "unknown"


def test_diffusion_weighting_wins_over_echo_planar_timing() -> None:
    facts = Facts("dwi", frozenset({"echo_planar", "gradient_echo", "diffusion"}), {"te_ms": 60, "tr_ms": 4000})
    assert contrast_of(facts)[0] == "dwi"


def test_every_rule_holds_only_known_conditions() -> None:
    known = {"contrast", "reason", "words", "not_words", "is", "is_not", "te_ms", "tr_ms", "ti_ms", "flip_deg", "etl"}
    known |= {"te_ms_or_missing", "ti_ms_or_missing"}
    for rule in load("contrasts.yaml")["rules"]:
        assert set(rule) <= known and rule["reason"], rule
