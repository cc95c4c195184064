"""DICOM headers as a table: one row per file, without any pixel.

Here: telling DICOM files from others, reading their headers in batches, and refusing files that are broken or are no
images. Not here: grouping into series with a contrast (`classify`, `receive`) or changing anything (`deidentify`).
The table holds identifiers as sent; it stays in memory and is never written.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID

from ingestion.imaging.header import Header, NotPlainError
from ingestion.imaging.model import ImageFile
from ingestion.imaging.values import (
    acquired_at,
    complex_component,
    first_value,
    frames_of,
    number_of,
    phase_direction,
    private_number,
    private_tags,
    slice_geometry,
    text_of,
    value_within,
    whole_number_of,
)
from warehouse.work import Mapper, Progress, serial, silent

log = logging.getLogger(__name__)

BATCH = 256
"""Files per batch: small enough for progress, large enough that starting a batch costs nothing."""
DEFER_BYTES = 1 << 16
"""Header values larger than this stay on disk."""

IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "classic",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced",
    "1.2.840.10008.5.1.4.1.1.4.4": "enhanced",  # legacy converted enhanced MR
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"

READ_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    NotImplementedError, OverflowError, UnicodeError, OSError, RecursionError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises on bytes that are not what they say."""

_STANDARD = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "StationName",
    "SoftwareVersions",
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "PulseSequenceName",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "AngioFlag",
    "TimeOfFlightContrast",
    "EchoPlanarPulseSequence",
    "EchoPulseSequence",
    "InversionRecovery",
    "Spoiling",
    "RepetitionTime",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "InversionTimes",
    "FlipAngle",
    "EchoTrainLength",
    "EchoNumbers",
    "MagneticFieldStrength",
    "DiffusionBValue",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InPlanePhaseEncodingDirection",
    "PatientPosition",
    "InstanceNumber",
    "SeriesNumber",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "BurnedInAnnotation",
    "BitsAllocated",
    "SamplesPerPixel",
    "BodyPartExamined",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ComplexImageComponent",
    "TemporalPositionIdentifier",
]


@cache
def _wanted() -> frozenset[int]:
    tags: set[int] = {int(Tag(name)) for name in _STANDARD}
    for group, offset, _, _ in (*private_tags("table_position"), *private_tags("b_value")):
        for block in range(0x10, 0x20):
            tags |= {(group << 16) | block, (group << 16) | (block << 8) | offset}  # creators and values
    return frozenset(tags)


SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "file_number": pl.Int32,
    "kind": pl.String,  # dicom | other
    "reason_code": pl.String,
    "reason": pl.String,
    "sop_instance_uid": pl.String,
    "study_uid": pl.String,
    "series_uid": pl.String,
    "image_class": pl.String,  # classic | enhanced
    "transfer_syntax": pl.String,
    "patient_name": pl.String,
    "patient_id": pl.String,
    "birth_date": pl.String,
    "study_description": pl.String,
    "series_description": pl.String,
    "protocol_name": pl.String,
    "sequence_name": pl.String,
    "scanning_sequence": pl.String,
    "sequence_variant": pl.String,
    "scan_options": pl.String,
    "image_type": pl.String,
    "component": pl.String,  # magnitude | phase | real | imaginary
    "manufacturer": pl.String,
    "model": pl.String,
    "device_serial": pl.String,
    "station": pl.String,
    "software_version": pl.String,
    "acquisition_dimension": pl.String,
    "angio_flag": pl.Boolean,
    "is_epi": pl.Boolean,
    "is_spoiled": pl.Boolean,
    "contrast_agent": pl.String,
    "body_part": pl.String,
    "repetition_time_ms": pl.Float64,
    "echo_time_ms": pl.Float64,
    "inversion_time_ms": pl.Float64,
    "flip_angle_deg": pl.Float64,
    "echo_train_length": pl.Float64,
    "echo_number": pl.Int32,
    "field_strength_t": pl.Float64,
    "b_value": pl.Float64,
    "slice_thickness_mm": pl.Float64,
    "rows": pl.Int32,
    "columns": pl.Int32,
    "frames": pl.Int32,
    "positions": pl.List(pl.Float64),  # along the slice normal, mm; one per frame
    "normal": pl.List(pl.Float64),
    "phase_direction": pl.List(pl.Float64),  # of phase encoding within the slice, LPS
    "patient_position": pl.String,
    "instance_number": pl.Int32,
    "series_number": pl.Int32,
    "acquired": pl.Datetime("us"),
    "table_position_mm": pl.Float64,
}


@dataclass(frozen=True)
class Batch:
    """Files whose headers are read in one piece of work."""

    files: tuple[ImageFile, ...]


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes or more of a file begin a DICOM file, with or without a preamble."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[1] != 0 or head[3] != 0 or head[0] not in (0x02, 0x08):
        return False
    # Without a preamble the data set begins at once: explicit VR shows two capitals, implicit VR a short length.
    return re.match(rb"[A-Z]{2}", head[4:6]) is not None or int.from_bytes(head[4:8], "little") <= 512


def _pixels_problem(handle: BinaryIO, ds: Any, size: int) -> tuple[str, str] | None:
    """Why the pixel data after the header cannot be whole, judged by lengths alone."""
    at = handle.tell()
    syntax = UID(str(ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")))
    if syntax == "1.2.840.10008.1.2.1.99":
        return None  # deflated: there are no lengths to compare before it is inflated
    order = "little" if syntax.is_little_endian else "big"
    head = handle.read(12)
    if len(head) < 8:
        return "no_pixels", "the file holds a header without an image"
    if syntax.is_implicit_VR:
        length, begin = int.from_bytes(head[4:8], order), at + 8  # type: ignore[arg-type]
    else:
        if len(head) < 12:
            return "truncated", "the file ends before its image data; send it again"
        length, begin = int.from_bytes(head[8:12], order), at + 12  # type: ignore[arg-type]
    if length == 0xFFFFFFFF:
        return None if _fragments_end(handle, begin, size) else (
            "truncated", "the file ends before its compressed image data; send it again",
        )  # fmt: skip
    expected = (
        int(ds.get("Rows") or 0) * int(ds.get("Columns") or 0) * int(ds.get("NumberOfFrames") or 1)
        * int(ds.get("SamplesPerPixel") or 1) * (int(ds.get("BitsAllocated") or 16) // 8)
    )  # fmt: skip
    if begin + length > size or length < expected:
        return "truncated", "the file ends before its image data is complete; send it again"
    return None if expected else ("no_pixels", "the file holds a header without an image")


def _fragments_end(handle: BinaryIO, begin: int, size: int) -> bool:
    """Whether compressed fragments are followed by their end mark, walking from item to item."""
    at = begin
    while at + 8 <= size:
        handle.seek(at)
        mark = handle.read(8)
        if mark[:4] == b"\xfe\xff\xdd\xe0":
            return True
        if mark[:4] != b"\xfe\xff\x00\xe0":
            return False
        at += 8 + int.from_bytes(mark[4:8], "little")
    return False


def _refused(file: ImageFile, kind: str, code: str, reason: str) -> dict[str, Any]:
    return {"file_number": file.file_number, "kind": kind, "reason_code": code, "reason": reason}


def read_header(file: ImageFile, wanted: frozenset[int] | None = None) -> dict[str, Any]:
    """One row of the index: a header, or why this file is refused. Never raises for what a file holds."""
    try:
        with file.path.open("rb") as handle:
            head = handle.read(132)
            if not looks_like_dicom(head):
                return _refused(file, "other", "unknown_file", "neither a registry file nor an image; leave it out")
            try:
                header = Header.read(handle, wanted or _wanted())
                if not header.get("PerFrameFunctionalGroupsSequence"):
                    return _row(file, header, handle)
                handle.seek(0)
            except NotPlainError:
                handle.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(
                    handle,
                    stop_before_pixels=True,
                    force=True,
                    defer_size=DEFER_BYTES,
                    specific_tags=sorted(wanted or _wanted()),
                )
                return _row(file, ds, handle)
    except READ_ERRORS:
        # The bytes are a site's: what pydicom says of them may quote them, so only the kind of trouble is told.
        return _refused(
            file, "dicom", "unreadable_dicom", "the DICOM header is damaged or cut off; send the file again"
        )


def _no_image(file: ImageFile, ds: Any, sop_class: str) -> dict[str, Any] | None:
    """The refusal of a DICOM object that is not an MR image, or must not be used."""
    modality = text_of(ds.get("Modality"))
    if sop_class == DIRECTORY:
        return _refused(file, "dicom", "dicomdir", "a DICOMDIR lists other files and holds no image")
    if not sop_class and not modality:
        return _refused(
            file, "dicom", "unreadable_dicom", "the DICOM header is damaged or cut off; send the file again"
        )
    if sop_class.startswith(SECONDARY_CAPTURE):
        return _refused(
            file, "dicom", "secondary_capture", "a secondary capture (screen shot) may show a patient's name"
        )
    if sop_class not in IMAGE_CLASSES:
        if modality not in ("", "MR"):
            return _refused(
                file,
                "dicom",
                "not_mr",
                "not an MR image: reports, presentation states and other modalities are not used",
            )
        return _refused(file, "dicom", "not_an_image", "a DICOM object that is not an MR image")
    if text_of(ds.get("BurnedInAnnotation")).upper() == "YES":
        return _refused(file, "dicom", "burned_in_text", "the header says that text is burned into the image")
    return None


def _row(file: ImageFile, ds: Any, handle: BinaryIO) -> dict[str, Any]:
    sop_class = text_of(ds.get("SOPClassUID")) or text_of(ds.file_meta.get("MediaStorageSOPClassUID"))
    unusable = _no_image(file, ds, sop_class)
    if unusable is not None:
        return unusable
    series_uid, study_uid, sop = (
        text_of(ds.get(name)) for name in ("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID")
    )
    if not (series_uid and study_uid and sop):
        return _refused(file, "dicom", "no_series_identity", "the header lacks its study, series or instance UID")
    size = file.path.stat().st_size
    problem = _pixels_problem(handle, ds, size)
    if problem:
        return _refused(file, "dicom", *problem)
    image_type = text_of(first_value(ds, "ImageType")).upper()
    normal, positions = slice_geometry(ds)
    sequence = " ".join(text_of(ds.get(name)) for name in ("SequenceName", "PulseSequenceName"))
    scanning = text_of(ds.get("ScanningSequence")).upper()
    echo_pulse = text_of(ds.get("EchoPulseSequence")).upper()
    if echo_pulse:
        scanning = "\\".join(
            filter(None, [scanning, {"GRADIENT": "GR", "SPIN": "SE", "BOTH": "GR\\SE"}.get(echo_pulse, "")])
        )
    if text_of(first_value(ds, "InversionRecovery")).upper() == "YES":
        scanning += "\\IR"
    epi = text_of(ds.get("EchoPlanarPulseSequence")).upper() == "YES" or "EP" in scanning.split("\\")
    b_value = number_of(first_value(ds, "DiffusionBValue"))
    if len(frames := frames_of(ds)) > 1:
        found = [number_of(value_within(frame, Tag("DiffusionBValue"), 2)) for frame in frames]
        b_value = max([value for value in found if value is not None], default=b_value)
    if b_value is None:
        b_value = private_number(ds, "b_value")
    agent = text_of(ds.get("ContrastBolusAgent"))
    if not agent and ds.get("ContrastBolusAgentSequence"):
        agent = "yes"
    return {
        "file_number": file.file_number,
        "kind": "dicom",
        "reason_code": None,
        "reason": None,
        "sop_instance_uid": sop,
        "study_uid": study_uid,
        "series_uid": series_uid,
        "image_class": IMAGE_CLASSES[sop_class],
        "transfer_syntax": text_of(ds.file_meta.get("TransferSyntaxUID")),
        "patient_name": text_of(ds.get("PatientName")),
        "patient_id": text_of(ds.get("PatientID")),
        "birth_date": text_of(ds.get("PatientBirthDate")),
        "study_description": text_of(ds.get("StudyDescription")),
        "series_description": text_of(ds.get("SeriesDescription")),
        "protocol_name": text_of(ds.get("ProtocolName")),
        "sequence_name": sequence.strip(),
        "scanning_sequence": scanning,
        "sequence_variant": text_of(ds.get("SequenceVariant")).upper(),
        "scan_options": text_of(ds.get("ScanOptions")).upper(),
        "image_type": image_type,
        "component": complex_component(ds, image_type),
        "manufacturer": text_of(ds.get("Manufacturer")),
        "model": text_of(ds.get("ManufacturerModelName")),
        "device_serial": text_of(ds.get("DeviceSerialNumber")),
        "station": text_of(ds.get("StationName")),
        "software_version": text_of(ds.get("SoftwareVersions")),
        "acquisition_dimension": text_of(first_value(ds, "MRAcquisitionType")).upper() or None,
        "angio_flag": text_of(ds.get("AngioFlag")).upper() == "Y"
        or text_of(ds.get("TimeOfFlightContrast")).upper() == "YES",
        "is_epi": epi,
        "is_spoiled": "SP" in text_of(ds.get("SequenceVariant")).upper().split("\\")
        or text_of(first_value(ds, "Spoiling")).upper() not in ("", "NONE"),
        "contrast_agent": agent,
        "body_part": text_of(ds.get("BodyPartExamined")),
        "repetition_time_ms": number_of(first_value(ds, "RepetitionTime")),
        "echo_time_ms": number_of(first_value(ds, "EchoTime") or first_value(ds, "EffectiveEchoTime")),
        "inversion_time_ms": number_of(first_value(ds, "InversionTime") or first_value(ds, "InversionTimes")),
        "flip_angle_deg": number_of(first_value(ds, "FlipAngle")),
        "echo_train_length": number_of(first_value(ds, "EchoTrainLength")),
        "echo_number": whole_number_of(ds.get("EchoNumbers")),
        "field_strength_t": number_of(ds.get("MagneticFieldStrength")),
        "b_value": b_value if b_value is None else b_value % 1e9,
        "slice_thickness_mm": number_of(first_value(ds, "SliceThickness")),
        "rows": whole_number_of(ds.get("Rows")),
        "columns": whole_number_of(ds.get("Columns")),
        "frames": whole_number_of(ds.get("NumberOfFrames")) or 1,
        "positions": positions,
        "normal": normal,
        "phase_direction": phase_direction(ds),
        "patient_position": text_of(ds.get("PatientPosition")) or None,
        "instance_number": whole_number_of(ds.get("InstanceNumber")),
        "series_number": whole_number_of(ds.get("SeriesNumber")),
        "acquired": acquired_at(ds),
        "table_position_mm": private_number(ds, "table_position"),
    }


def index_batch(batch: Batch) -> pl.DataFrame:
    """The index rows of one batch of files, in order."""
    wanted = _wanted()
    return pl.DataFrame([read_header(file, wanted) for file in batch.files], schema=SCHEMA, orient="row")


def batches(files: Sequence[ImageFile]) -> Iterator[Batch]:
    for begin in range(0, len(files), BATCH):
        yield Batch(tuple(files[begin : begin + BATCH]))


def index_files(files: Sequence[ImageFile], *, mapper: Mapper = serial, progress: Progress = silent) -> pl.DataFrame:
    """Index DICOM headers of files: one row each, refused files with their reason.

    Of several files with one SOPInstanceUID the first by file number counts; the others are refused as duplicates.

    Returns
    -------
    pl.DataFrame
        Columns of `SCHEMA`, ordered by file number.
    """
    work = list(batches(sorted(files, key=lambda file: file.file_number)))
    frames: list[pl.DataFrame] = [pl.DataFrame(schema=SCHEMA)] * len(work)
    done = 0
    for number, result in mapper(index_batch, work):
        if isinstance(result, Exception):
            log.warning("an indexing worker failed (%s); its files are read here instead", type(result).__name__)
            result = index_batch(work[number])
        frames[number] = result
        done += len(work[number].files)
        progress("reading headers", done, len(files))
    table = pl.concat([pl.DataFrame(schema=SCHEMA), *frames])
    again = (pl.col("sop_instance_uid").is_not_null()) & (
        pl.col("file_number") != pl.col("file_number").min().over("sop_instance_uid")
    )
    return table.with_columns(
        pl.when(again).then(pl.lit("duplicate")).otherwise(pl.col("reason_code")).alias("reason_code"),
        pl.when(again)
        .then(pl.lit("a second copy of an image that this delivery already holds"))
        .otherwise(pl.col("reason"))
        .alias("reason"),
    ).sort("file_number")


def is_dicom_path(path: Path) -> bool:
    """Whether a file begins like DICOM."""
    with path.open("rb") as handle:
        return looks_like_dicom(handle.read(132))
