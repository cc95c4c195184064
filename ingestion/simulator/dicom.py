"""Writing a scan as the DICOM files its scanner would send.

Here: headers in the vendor's manner and files. Not here: the image itself (`scanner`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from ingestion.simulator.faults import Disturbance
from ingestion.simulator.network import Protocol, Scanner
from ingestion.simulator.scanner import Scan

MR_IMAGE = UID("1.2.840.10008.5.1.4.1.1.4")


@dataclass(frozen=True)
class Subject:
    """The patient as the scanner's console knows them."""

    patient_id: str
    family_name: str
    given_name: str
    sex: str
    birth_date: dt.date


@dataclass(frozen=True)
class Session:
    """When a series was made, and the parts its unique identifiers are made from."""

    acquired: dt.datetime
    series_number: int
    site_code: str
    study: str
    seed: int


def mistimed(protocol: Protocol, contrast: str) -> Protocol:
    """The protocol with inversion, repetition and echo times far off."""
    if contrast == "FLAIR":
        return replace(protocol, inversion_ms=900, repetition_ms=2600, echo_ms=70)
    return replace(protocol, inversion_ms=250, repetition_ms=700, echo_ms=8)


def write_series(
    folder: Path,
    pattern: str,
    scan: Scan,
    scanner: Scanner,
    protocol: Protocol,
    contrast: str,
    subject: Subject,
    session: Session,
    wanted: Disturbance,
    lost: frozenset[int],
) -> int:
    """Write one file per slice into `folder`, leaving out the slices of `lost`; how many files were written."""
    folder.mkdir(parents=True, exist_ok=True)
    if wanted.is_mistimed:
        protocol = mistimed(protocol, contrast)
    series = (session.site_code, session.study, contrast, str(session.seed))
    dataset = _header(scan, scanner, protocol, subject, session, wanted, series)
    count = 0
    for i, pixels in enumerate(scan.pixels):
        if i in lost:
            continue
        position = scan.first_position + scan.slice_step * i
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*series, "image", str(i)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = i + 1
        dataset.ImagePositionPatient = [f"{v:.4f}" for v in position]
        dataset.SliceLocation = f"{float(np.dot(position, scan.slice_step) / np.linalg.norm(scan.slice_step)):.4f}"
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / pattern.format(i=i + 1), enforce_file_format=True)
        count += 1
    return count


def _header(
    scan: Scan,
    scanner: Scanner,
    protocol: Protocol,
    subject: Subject,
    session: Session,
    wanted: Disturbance,
    series: tuple[str, ...],
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MR_IMAGE
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["ranvier simulator"])
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    study = (session.site_code, session.study, str(session.seed))
    day, clock = f"{session.acquired:%Y%m%d}", f"{session.acquired:%H%M%S}"
    thick = float(np.linalg.norm(scan.slice_step))
    is_2d = thick > 4.5
    values: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND" if scanner.vendor == "Siemens" else "NONE"],
        "SOPClassUID": MR_IMAGE,
        "StudyDate": day, "SeriesDate": day, "AcquisitionDate": day, "ContentDate": day,
        "StudyTime": clock, "SeriesTime": clock, "AcquisitionTime": clock, "ContentTime": clock,
        "AccessionNumber": "", "Modality": "MR", "Manufacturer": scanner.manufacturer,
        "InstitutionName": f"Simulated centre {session.site_code}", "ReferringPhysicianName": "",
        "StationName": scanner.station, "StudyDescription": "Brain MS follow-up",
        "SeriesDescription": protocol.description, "ManufacturerModelName": scanner.model,
        "PatientName": f"{subject.family_name}^{subject.given_name}", "PatientID": subject.patient_id,
        "PatientBirthDate": f"{subject.birth_date:%Y%m%d}", "PatientSex": subject.sex,
        "BodyPartExamined": "BRAIN", "ScanningSequence": list(protocol.scanning),
        "SequenceVariant": list(protocol.variant), "ScanOptions": "", "MRAcquisitionType": "2D" if is_2d else "3D",
        "SequenceName": protocol.sequence, "SliceThickness": f"{thick:.3f}",
        "RepetitionTime": f"{protocol.repetition_ms:g}", "EchoTime": f"{protocol.echo_ms:g}",
        "InversionTime": f"{protocol.inversion_ms:g}", "NumberOfAverages": "1", "ImagingFrequency": "123.25",
        "ImagedNucleus": "1H", "EchoNumbers": "1", "MagneticFieldStrength": f"{scanner.field_t:g}",
        "SpacingBetweenSlices": f"{thick:.3f}", "EchoTrainLength": str(protocol.train), "PixelBandwidth": "240",
        "DeviceSerialNumber": scanner.serial, "SoftwareVersions": scanner.software,
        "ProtocolName": protocol.description, "InPlanePhaseEncodingDirection": "ROW",
        "FlipAngle": f"{protocol.flip_deg:g}", "PatientPosition": "HFS",
        "StudyInstanceUID": generate_uid(entropy_srcs=[*study, "study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[*series, "series"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[*study, "frame"]),
        "StudyID": "1", "SeriesNumber": session.series_number, "AcquisitionNumber": 1,
        "ImageOrientationPatient": [f"{v:.6f}" for v in scan.orientation],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "Rows": scan.pixels.shape[1], "Columns": scan.pixels.shape[2],
        "PixelSpacing": [f"{protocol.pixel_mm:.4f}"] * 2, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 0,
    }  # fmt: skip
    if scanner.vendor != "Siemens":
        values.pop("SequenceName")  # the other vendors name the sequence in tags of their own
    for name, value in values.items():
        setattr(ds, name, value)
    _private(ds, scan, scanner, subject, wanted)
    return ds


def _private(ds: FileDataset, scan: Scan, scanner: Scanner, subject: Subject, wanted: Disturbance) -> None:
    if scanner.table is not None:
        group, element, creator, kind = scanner.table
        value: object = scan.table_mm
        if kind == "IS":
            value = [0, 0, round(scan.table_mm)]
        elif kind == "DS":
            value = f"{scan.table_mm:g}"
        ds.private_block(group, creator, create=True).add_new(element, kind, value)
    if wanted.leaks_name:
        group, element, creator = scanner.private_name
        name = f"{subject.family_name} {subject.given_name}"
        ds.private_block(group, creator, create=True).add_new(element, "LO", name)
