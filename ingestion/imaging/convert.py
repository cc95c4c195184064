"""One DICOM series becomes one NIfTI image in the lake.

Here: de-identify into a temporary folder, run dcm2niix there, choose its output, store image, sidecar, gradients and
ledger. Not here: which files are a series (`receive`). What was converted is remembered by content in
`lake/cache/converted/`, so that a killed run repeats nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import dcm2niix

from ingestion.imaging.bids import bids_path, clean_sidecar, link
from ingestion.imaging.deidentify import DeidentificationFailed, deidentify, policy_version
from ingestion.imaging.model import Converted, ConversionWork
from ingestion.imaging.nifti import Grid, ImageRefused, fill_gaps, read_grid, store
from warehouse.home import Home
from warehouse.lake import object_path, put_object, sha256_json, write_json
from warehouse.pseudonyms import Pseudonyms

METHOD = "1"
"""Raise it when the same series would be converted differently."""
CONVERTER = f"dcm2niix {dcm2niix.__version__}"
TIMEOUT_SECONDS = 900
_OBJECTS = {
    "image_sha256": ".nii.gz",
    "sidecar_sha256": ".json",
    "bval_sha256": ".bval",
    "bvec_sha256": ".bvec",
    "ledger_sha256": ".ledger.json",
}


def work_folder(home: Home, site_code: str) -> Path:
    """Hidden folder below which a site's files are de-identified; removed when its delivery is done."""
    return home.cache / ".deidentified" / site_code


def content_key(work: ConversionWork) -> str:
    """What a conversion depends on."""
    return sha256_json(
        [
            METHOD,
            CONVERTER,
            policy_version(),
            work.site_code,
            work.series_key,
            work.subject_key,
            work.session_key,
            work.contrast,
            work.is_contrast_enhanced,
            dataclasses.asdict(work.gaps) if work.gaps else None,
            [digest for _, digest in work.files],
            sorted((kind, digest) for kind, (_, digest) in work.sidecars.items()),
        ]
    )


def remembered(work: ConversionWork) -> Converted | None:
    """An earlier conversion of the same content whose objects are all still there."""
    home = Home(Path(work.home))
    try:
        stored = json.loads((home.cache / "converted" / f"{content_key(work)}.json").read_text(encoding="utf-8"))
        found = Converted(**stored)
    except (OSError, ValueError, TypeError):
        return None
    digests = {name: getattr(found, name) for name in _OBJECTS}
    if not all(object_path(home, digest, _OBJECTS[name]).exists() for name, digest in digests.items() if digest):
        return None
    return dataclasses.replace(
        found, shape=tuple(found.shape), zooms=tuple(found.zooms), affine=tuple(tuple(row) for row in found.affine)
    )


def remember(work: ConversionWork, converted: Converted) -> None:
    home = Home(Path(work.home))
    write_json(home.cache / "converted" / f"{content_key(work)}.json", dataclasses.asdict(converted))


def convert_dicom(work: ConversionWork) -> Converted:
    """Convert one series, or say why it cannot be converted. The result carries no path and no identifier."""
    found = remembered(work)
    home = Home(Path(work.home))
    if found is None:
        folder = work_folder(home, work.site_code) / uuid.uuid4().hex
        try:
            found = _convert(home, work, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        remember(work, found)
    place(home, found)
    return found


def place(home: Home, converted: Converted) -> None:
    """Give the objects of a conversion their BIDS names."""
    if converted.bids_path is None or converted.image_sha256 is None:
        return
    stem = converted.bids_path.removesuffix(".nii.gz")
    for name, suffix in _OBJECTS.items():
        digest = getattr(converted, name)
        if digest and suffix != ".ledger.json":
            link(home, object_path(home, digest, suffix), stem + suffix)


def put_json(home: Home, value: Any, suffix: str) -> str:
    """Store a value as an object; the same value has the same hash."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return put_object(home, lambda handle: _write(handle, text.encode()), suffix)[0]


def put_bytes(home: Home, data: bytes, suffix: str) -> str:
    return put_object(home, lambda handle: _write(handle, data), suffix)[0]


def _write(handle: Any, data: bytes) -> None:
    handle.write(data)


def _convert(home: Home, work: ConversionWork, folder: Path) -> Converted:
    headers, made = folder / "dicom", folder / "nifti"
    headers.mkdir(parents=True)
    made.mkdir()
    try:
        ledger, search = deidentify(
            [Path(path) for path, _ in work.files], headers, Pseudonyms(home).hash, work.site_code
        )
    except DeidentificationFailed as error:
        return Converted("refused", "deidentification_failed", str(error))
    ledger_sha256 = put_json(home, ledger, ".ledger.json")
    try:
        chosen = _choose(made, _run(headers, made))
        if work.gaps:
            chosen = fill_gaps(made / "image.nii", work.gaps) or chosen
        digest, _, grid = store(home, chosen)
    except ImageRefused as error:
        return Converted("refused", error.code, str(error), ledger_sha256=ledger_sha256)
    sidecar = _sidecar(chosen)
    kept = clean_sidecar(sidecar, search, from_site=False)
    gradients = {
        f"{kind}_sha256": put_bytes(home, path.read_bytes(), f".{kind}")
        for kind in ("bval", "bvec")
        if (path := chosen.with_suffix(f".{kind}")).exists()
    }
    return Converted(
        "accepted",
        image_sha256=digest,
        sidecar_sha256=put_json(home, kept, ".json"),
        ledger_sha256=ledger_sha256,
        bids_path=bids_path(
            work.subject_key, work.session_key, work.series_key, work.contrast, work.is_contrast_enhanced
        ),
        converter_version=CONVERTER,
        shape=grid.shape,
        zooms=grid.zooms,
        affine=grid.affine,
        sidecar=kept,
        **gradients,
    )


def _run(headers: Path, made: Path) -> str:
    """Run dcm2niix. What it prints names paths, so only known phrases of it are ever passed on."""
    command = [dcm2niix.bin, "-ba", "y", "-b", "y", "-z", "n", "-f", "image", "-o", str(made), str(headers)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ImageRefused("conversion_failed", "the series could not be converted in time") from None
    return result.stdout + result.stderr


def _choose(made: Path, printed: str) -> Path:
    """The output that holds most voxels; of equals the first by name.

    dcm2niix makes several of one series when it adds a computed map, and when slices do not fit into one volume.
    """
    grids: list[tuple[int, str, Path]] = []
    for path in sorted(made.glob("*.nii")):
        try:
            grid: Grid = read_grid(path)
        except ImageRefused:
            continue
        size = 1
        for length in grid.shape:
            size *= length
        grids.append((-size, path.name, path))
    if grids:
        return min(grids)[2]
    text = printed.lower()
    if "transfer syntax" in text or "compress" in text:
        raise ImageRefused("unsupported_compression", "the pixel data is compressed in a way that cannot be read")
    if "missing" in text:
        raise ImageRefused("incomplete_series", "images of the series are missing, so it does not make a volume")
    raise ImageRefused("conversion_failed", "the images of the series do not make a volume; export the series again")


def _sidecar(image: Path) -> dict[str, Any]:
    try:
        found = json.loads(image.with_suffix(".json").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
