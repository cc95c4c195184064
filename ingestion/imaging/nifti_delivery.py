"""NIfTI files as they arrive, in BIDS names or loose ones.

Here: which files of a delivery are images, sidecars or neither; whose image it is by its name; taking one into the lake.
Not here: DICOM, or the header and voxels of an image (`nifti`). Names are read, never shown or stored.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion.imaging.bids import bids_path, clean_sidecar
from ingestion.imaging.classify import classify_name
from ingestion.imaging.convert import place, put_bytes, put_json, remember, remembered
from ingestion.imaging.identity import Search, Words
from ingestion.imaging.model import Converted, ConversionWork, FileFate, ImageFile
from ingestion.imaging.nifti import ImageRefused, looks_like_labels, store
from ingestion.imaging.results import fate_of, outcome, run_all
from ingestion.imaging.series import manufacturer_of
from ingestion.imaging.settings import load, names_any, words_of
from warehouse.home import Home
from warehouse.lake import object_path
from warehouse.pseudonyms import Pseudonyms
from warehouse.work import Mapper, Progress

CONVERTER = "none: delivered as NIfTI"
_IMAGE = re.compile(r"\.(nii|nii\.gz|hdr|img|hdr\.gz|img\.gz|mgz|mgh|nrrd|mha|mnc)$", re.IGNORECASE)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_BESIDE = ("json", "bval", "bvec")
_TRANSFORM_NAME = re.compile(r"\.(mat|lta|xfm|h5|tfm|dat|m3z)$", re.IGNORECASE)
_SUBJECT_FILE = re.compile(r"^sub-([A-Za-z0-9]+)(?=_|$)")
_SUBJECT_FOLDER = re.compile(r"^sub-([A-Za-z0-9]+)$")
_SUBJECT_LOOSE = re.compile(r"^(?:patient|subject|pat|subj|sub|case)[-_ ]?[A-Za-z]*[-_ ]?\d[\w-]*$", re.IGNORECASE)
_SESSION_FILE = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)(?=_|$)")
_SESSION_LOOSE = re.compile(r"(?:study|session|visit|ses|tp|timepoint|scan)[-_ ]?(\d+)", re.IGNORECASE)
_NO_ISOCENTRE = "a NIfTI file does not say where the scanner's isocentre is"
_JSON_LIMIT = 1 << 20
_LABELS = ("not_an_acquisition", "a mask, label map or other result of processing, not an acquired image")
_NOT_USED = ("not_used", "a description that belongs to no image of this delivery; nothing needs to be done")
_TRANSFORM = ("transform", "a transform between images, not an image; nothing needs to be done")


@dataclass
class Delivered:
    """The NIfTI side of a delivery."""

    images: list[tuple[ImageFile, tuple[str, ...]]] = field(default_factory=list)
    """Files with the parts of their names below the delivery."""
    beside: dict[tuple[str, ...], list[tuple[str, ImageFile]]] = field(default_factory=dict)
    """Sidecars by the parts of their names without the ending."""
    refused: dict[int, FileFate] = field(default_factory=dict)


def _parts(home: Home, path: Path) -> tuple[str, ...]:
    """A path below its delivery; of an unpacked archive, below the archive."""
    for root, depth in ((home.cache / "unpacked", 2), (home.landing, 2)):
        if path.is_relative_to(root):
            return path.relative_to(root).parts[depth:]
    return path.parts[-4:]


def split(home: Home, files: Sequence[ImageFile]) -> tuple[Delivered, list[ImageFile]]:
    """Take NIfTI images, their sidecars and transforms out of some files; the rest may be DICOM."""
    found = Delivered()
    rest = []
    for file in files:
        name = file.path.name
        ending = name.rsplit(".", 1)[-1].lower()
        parts = _parts(home, file.path)
        if _NIFTI.search(name):
            found.images.append((file, parts))
        elif _IMAGE.search(name) and not _starts_like_dicom(file.path):
            found.refused[file.file_number] = FileFate(
                "other", None, "refused", "unsupported_format", "send the image as one .nii or .nii.gz file, or as DICOM"
            )
        elif ending in _BESIDE:
            stem = (*parts[:-1], name.rsplit(".", 1)[0])
            found.beside.setdefault(stem, []).append((ending, file))
        elif _TRANSFORM_NAME.search(name) or _is_transform(file.path):
            found.refused[file.file_number] = FileFate("other", None, "refused", *_TRANSFORM)
        else:
            rest.append(file)
    return found, rest


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(132)
    except OSError:
        return b""


def _starts_like_dicom(path: Path) -> bool:
    return _head(path)[128:132] == b"DICM"


def _is_transform(path: Path) -> bool:
    return _head(path).startswith(b"#Insight Transform File")


def subject_of(parts: tuple[str, ...]) -> str | None:
    """Whose image it is: the BIDS label, else a folder named like a patient, else the file's folder."""
    stem = _stem(parts[-1])
    if match := _SUBJECT_FILE.match(stem):
        return match[1]
    for folder in reversed(parts[:-1]):
        if match := _SUBJECT_FOLDER.match(folder):
            return match[1]
        if _SUBJECT_LOOSE.match(folder):
            return folder
    if _SUBJECT_LOOSE.match(first := stem.split("_")[0]):
        return first
    return parts[-2] if len(parts) > 1 else None


def session_of(parts: tuple[str, ...]) -> str:
    """Which session it is of, by the file's name, else by a folder's; `1` where nothing says."""
    for name in (_stem(parts[-1]), *reversed(parts[:-1])):
        for pattern in (_SESSION_FILE, _SESSION_LOOSE):
            if match := pattern.search(name):
                return match[1]
    return "1"


def _stem(name: str) -> str:
    return _NIFTI.sub("", name)


def _belongs(parts: tuple[str, ...], stem: tuple[str, ...]) -> int | None:
    """How closely a sidecar's name applies to an image: 0 for the same name, else by BIDS inheritance."""
    image = (*parts[:-1], _stem(parts[-1]))
    if image == stem:
        return 0
    if image[: len(stem) - 1] != stem[:-1]:
        return None
    mine, its = image[-1].split("_"), stem[-1].split("_")
    # By inheritance a file further up applies when each of its entities is one of the image's.
    if its[-1] == mine[-1] and set(its) <= set(mine):
        return len(image) - len(stem) + 1
    return None


def _sidecars(delivered: Delivered, parts: tuple[str, ...]) -> dict[str, ImageFile]:
    ranked: dict[str, tuple[int, int, ImageFile]] = {}
    for stem, files in delivered.beside.items():
        distance = _belongs(parts, stem)
        if distance is None:
            continue
        for kind, file in files:
            rank = (distance, file.file_number, file)
            if kind not in ranked or rank[:2] < ranked[kind][:2]:
                ranked[kind] = rank
    return {kind: file for kind, (_, _, file) in ranked.items()}


def receive(
    home: Home,
    site_code: str,
    delivered: Delivered,
    pseudonyms: Pseudonyms,
    mapper: Mapper,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[int, FileFate]]:
    """Rows of `raw_imaging__series` (without provenance) and a fate for each file that `split` took."""
    fates = dict(delivered.refused)
    works: list[ConversionWork] = []
    rows: list[dict[str, Any]] = []
    members: list[tuple[ImageFile, dict[str, ImageFile]]] = []
    unusable = load("contrasts.yaml")["nifti_not_an_acquisition"]
    for file, parts in delivered.images:
        if names_any(words_of(_stem(parts[-1])), unusable):
            fates[file.file_number] = FileFate("nifti", None, "refused", *_LABELS)
            continue
        sidecars = _sidecars(delivered, parts)
        work, row = _prepare(home, site_code, file, parts, sidecars, pseudonyms)
        works.append(work)
        rows.append(row)
        members.append((file, sidecars))
    results = run_all(mapper, take_in, works, range(len(works)), progress, "taking in NIfTI images")
    for at, (file, sidecars) in enumerate(members):
        rows[at] |= outcome(results[at]) | _facts(results[at])
        key = rows[at]["series_key"]
        fates[file.file_number] = fate_of("nifti", key, results[at])
        for sidecar in sidecars.values():
            earlier = fates.get(sidecar.file_number)
            # One sidecar may serve several images: it is accepted when one of them is.
            if earlier is None or earlier.status == "refused":
                fates[sidecar.file_number] = fate_of("sidecar", key, results[at])
    for files in delivered.beside.values():
        for _, sidecar in files:
            fates.setdefault(sidecar.file_number, FileFate("sidecar", None, "refused", *_NOT_USED))
    return rows, fates


def _prepare(
    home: Home,
    site_code: str,
    file: ImageFile,
    parts: tuple[str, ...],
    sidecars: dict[str, ImageFile],
    pseudonyms: Pseudonyms,
) -> tuple[ConversionWork, dict[str, Any]]:
    subject_name, session_name = subject_of(parts), session_of(parts)
    subject = pseudonyms.key("subject", site_code, *([subject_name] if subject_name else ["no-id", file.sha256]))
    session = pseudonyms.key("session", site_code, subject_name or file.sha256, session_name)
    series = pseudonyms.key("series", site_code, "nifti", subject_name or "", session_name, "/".join(parts))
    contrast, reason, enhanced = classify_name(_stem(parts[-1]))
    numbers = [file.file_number, *(sidecar.file_number for sidecar in sidecars.values())]
    work = ConversionWork(
        str(home.root),
        site_code,
        series,
        subject,
        session,
        ((str(file.path), file.sha256),),
        contrast,
        enhanced,
        {kind: (str(sidecar.path), sidecar.sha256) for kind, sidecar in sidecars.items()},
    )
    derived = words_of(*parts[:-1], _stem(parts[-1]))
    return work, {
        "series_key": series,
        "session_key": session,
        "subject_key": subject,
        "source": "nifti",
        "files_count": len(numbers),
        "first_file_number": min(numbers),
        "last_file_number": max(numbers),
        "contrast": contrast,
        "contrast_reason": reason,
        "is_derived": names_any(derived, load("contrasts.yaml")["nifti_derived_words"]),
        "is_contrast_enhanced": enhanced,
        "is_header_phantom": names_any(derived, load("contrasts.yaml")["phantom_words"]),
        "is_isocentre_known": False,
        "isocentre_reason": _NO_ISOCENTRE,
    }


def take_in(work: ConversionWork) -> Converted:
    """Take one image with its sidecars into the lake, or say why not. The result carries no path."""
    found = remembered(work)
    home = Home(Path(work.home))
    if found is None:
        found = _take_in(home, work)
        remember(work, found)
    place(home, found)
    return found


def _take_in(home: Home, work: ConversionWork) -> Converted:
    path = Path(work.files[0][0])
    try:
        digest, stored, grid = store(home, path)
    except ImageRefused as error:
        return Converted("refused", error.code, str(error))
    if looks_like_labels(object_path(home, digest, ".nii.gz")):
        stored.unlink()
        return Converted("refused", *_LABELS)
    # What the file's name holds is known to be the site's own; a sidecar that repeats it is cut.
    search = Search(Words.of([_stem(path.name), *(_stem(path.name).split("_"))]))
    raw = _json(work)
    kept = clean_sidecar(raw, search, from_site=True)
    stamp = _moment(raw)
    gradients = {}
    for kind in ("bval", "bvec"):
        if kind in work.sidecars and (numbers := _numbers(Path(work.sidecars[kind][0]))) is not None:
            gradients[f"{kind}_sha256"] = put_bytes(home, numbers, f".{kind}")
    ledger = {
        "profile": "NIfTI header texts and extensions blanked; sidecar by allow-list of keys",
        "actions": [
            {"tag": name, "action": "emptied"} for name in ("aux_file", "data_type", "db_name", "descrip", "intent_name")
        ]
        + [{"tag": "extensions", "action": "removed"}]
        + [{"tag": "sidecar", "action": "cleaned"}] * bool(raw),
        "identifiers_found": [],
    }
    return Converted(
        "accepted",
        image_sha256=digest,
        sidecar_sha256=put_json(home, kept, ".json"),
        ledger_sha256=put_json(home, ledger, ".ledger.json"),
        bids_path=bids_path(
            work.subject_key, work.session_key, work.series_key, work.contrast, work.is_contrast_enhanced
        ),
        converter_version=CONVERTER,
        shape=grid.shape,
        zooms=grid.zooms,
        affine=grid.affine,
        sidecar=kept,
        acquired=stamp,
        **gradients,
    )


def _json(work: ConversionWork) -> dict[str, Any]:
    if "json" not in work.sidecars:
        return {}
    path = Path(work.sidecars["json"][0])
    try:
        if path.stat().st_size > _JSON_LIMIT:
            return {}
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _moment(raw: dict[str, Any]) -> str | None:
    """When the image was acquired, as ISO text, where the sidecar says it: a column of the lake, not of the sidecar."""
    try:
        return dt.datetime.fromisoformat(str(raw["AcquisitionDateTime"])).replace(tzinfo=None).isoformat()
    except (KeyError, ValueError):
        return None


def _numbers(path: Path) -> bytes | None:
    """A gradient table as it is when it holds numbers only; anything else is not kept."""
    try:
        data = path.read_bytes()
        rows = [[float(word) for word in line.split()] for line in data.decode("ascii").splitlines()]
    except (OSError, ValueError):
        return None
    return data if rows and len(data) <= _JSON_LIMIT else None


def _facts(converted: Converted) -> dict[str, Any]:
    """Acquisition parameters that a cleaned sidecar states, in the lake's units: BIDS has seconds."""
    side = converted.sidecar

    def number(name: str, scale: float = 1) -> float | None:
        value = side.get(name)
        return float(value) * scale if isinstance(value, int | float) and not isinstance(value, bool) else None

    def text(name: str) -> str | None:
        value = side.get(name)
        return value if isinstance(value, str) else None

    letter = (text("PhaseEncodingDirection") or "")[:1]
    return {
        "acquisition_datetime": dt.datetime.fromisoformat(converted.acquired) if converted.acquired else None,
        "manufacturer": manufacturer_of(text("Manufacturer") or ""),
        "model": text("ManufacturersModelName"),
        "software_version": text("SoftwareVersions"),
        "field_strength_t": number("MagneticFieldStrength"),
        "acquisition_dimension": text("MRAcquisitionType"),
        "repetition_time_ms": number("RepetitionTime", 1000),
        "echo_time_ms": number("EchoTime", 1000),
        "inversion_time_ms": number("InversionTime", 1000),
        "flip_angle_deg": number("FlipAngle"),
        "slice_thickness_mm": number("SliceThickness"),
        "patient_position": text("PatientPosition"),
        "phase_encoding_axis": letter if letter in ("i", "j", "k") else None,
    }
