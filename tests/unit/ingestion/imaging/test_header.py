"""The fast header reader gives what pydicom gives, or steps aside."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ingestion.imaging.header import Header, NotPlainError
from ingestion.imaging.index import index_files
from ingestion.imaging.model import ImageFile


def _write(path: Path, syntax: str, charset: str | None, undefined: bool) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    if charset:
        ds.SpecificCharacterSet = charset
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.Modality, ds.Manufacturer, ds.PatientName = "MR", "SIEMENS", "Müller^Zoë" if charset else "Doe^J"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.EchoTime, ds.RepetitionTime, ds.FlipAngle, ds.MagneticFieldStrength = 2.5, "2300.0", 9, 3
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    ds.AcquisitionDate, ds.AcquisitionTime, ds.InstanceNumber = "20260102", "010203.5", 7
    item, inner = Dataset(), Dataset()
    inner.CodeValue = "x"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    item.EchoTime = 99  # of another image: not this one's
    item.is_undefined_length_sequence_item = inner.is_undefined_length_sequence_item = undefined
    ds.ReferencedImageSequence = Sequence([item, item])
    for holder, name in ((item, "PurposeOfReferenceCodeSequence"), (ds, "ReferencedImageSequence")):
        holder[name].is_undefined_length = undefined
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x14, "IS", [0, 1, -120])
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 16, 16, 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("charset", [None, "ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_same_row_as_pydicom(tmp_path: Path, syntax: str, charset: str | None, undefined: bool) -> None:
    path = _write(tmp_path / "a", syntax, charset, undefined)
    with path.open("rb") as handle:
        assert Header.read(handle, frozenset({0x00180081})).get("EchoTime") == "2.5"  # it does not step aside here
    files = [ImageFile(path, 1, "", path.stat().st_size)]
    fast = index_files(files)
    with patch.object(Header, "read", side_effect=NotPlainError):
        assert fast.equals(index_files(files))
    row = fast.row(0, named=True)
    assert row["reason_code"] is None and row["echo_time_ms"] == 2.5 and row["table_position_mm"] == -120
    assert row["patient_name"] == ("Müller^Zoë" if charset else "Doe^J")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_left_to_pydicom(tmp_path: Path, syntax: str) -> None:
    path = _write(tmp_path / "a", syntax, None, False)
    with path.open("rb") as handle, pytest.raises(NotPlainError):
        Header.read(handle, frozenset())
    assert index_files([ImageFile(path, 1, "", path.stat().st_size)])["echo_time_ms"].to_list() == [2.5]


def test_damaged_headers_never_raise_nor_are_quoted_in_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(_write(tmp_path / "a", ExplicitVRLittleEndian, None, True).read_bytes())
    random = np.random.default_rng(1)
    target = tmp_path / "b"
    for _ in range(300):
        broken = bytearray(data)
        for at in random.integers(132, len(data) - 140, 4):
            broken[at] = random.integers(256)
        target.write_bytes(broken[: int(random.integers(140, len(data) + 1))])
        table = index_files([ImageFile(target, 1, "", target.stat().st_size)])
        assert table.height == 1
    assert not caplog.records
