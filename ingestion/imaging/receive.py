"""All files of a delivery that are no registry tables become series, or are refused.

Here: the order of steps and the accounting: each file handed in has exactly one fate. Not here: the steps themselves
(`index`, `series`, `nifti_delivery`, `convert`), or unpacking and registry tables (`ingestion.receive`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import polars as pl

from ingestion.imaging import nifti_delivery
from ingestion.imaging.bids import ensure_dataset
from ingestion.imaging.convert import convert_dicom, work_folder
from ingestion.imaging.index import index_files
from ingestion.imaging.model import Converted, ConversionWork, FileFate, ImageFile, ImagesResult
from ingestion.imaging.nifti import phase_axis
from ingestion.imaging.results import fate_of, outcome, run_all
from ingestion.imaging.series import Series, describe, gaps_of, has_mixed_patients, keys_of, split
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import schema_of
from warehouse.work import Mapper, Progress, serial, silent

_MIXED = ("mixed_patients", "files of one series name different patients; export the series again")


def receive_images(
    home: Home,
    site_code: str,
    delivery_key: str,
    files: Sequence[ImageFile],
    pseudonyms: Pseudonyms,
    *,
    mapper: Mapper = serial,
    progress: Progress = silent,
) -> ImagesResult:
    """Index, de-identify and convert the images among some files.

    May be killed at any moment and called again: series that were converted are taken from the cache. Nothing that a
    file holds raises; a file or series that cannot be used is refused with a reason.

    Returns
    -------
    ImagesResult
        `series` has the columns of `raw_imaging__series`; `files` has one entry for each file handed in.
    """
    shutil.rmtree(work_folder(home, site_code), ignore_errors=True)  # left by a killed process
    ensure_dataset(home)
    try:
        delivered, others = nifti_delivery.split(home, files)
        rows, fates = _dicom(home, site_code, others, pseudonyms, mapper, progress)
        more_rows, more_fates = nifti_delivery.receive(home, site_code, delivered, pseudonyms, mapper, progress)
    finally:
        shutil.rmtree(work_folder(home, site_code), ignore_errors=True)
    fates |= more_fates
    if fates.keys() != {file.file_number for file in files}:
        raise RanvierError("An image file would be lost unaccounted; report this to the developers")
    rows = [row | {"site_code": site_code, "delivery_key": delivery_key} for row in [*rows, *more_rows]]
    table = pl.DataFrame(rows, schema=schema_of("raw_imaging__series"), orient="row")
    return ImagesResult(table.sort("first_file_number", "series_key"), fates)


def _dicom(
    home: Home,
    site_code: str,
    files: Sequence[ImageFile],
    pseudonyms: Pseudonyms,
    mapper: Mapper,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[int, FileFate]]:
    index = index_files(files, mapper=mapper, progress=progress)
    fates: dict[int, FileFate] = {}
    usable = []
    for row in index.iter_rows(named=True):
        if row["reason_code"] is None:
            usable.append(row)
        else:
            fates[row["file_number"]] = FileFate(row["kind"], None, "refused", row["reason_code"], row["reason"])
    paths = {file.file_number: file for file in files}
    found = split(usable)
    rows: list[dict[str, Any]] = []
    works: list[ConversionWork] = []
    for one, (subject, session, key) in zip(found, keys_of(found, pseudonyms, site_code), strict=True):
        row, told = describe(one, pseudonyms, site_code)
        rows.append(row | {"subject_key": subject, "session_key": session, "series_key": key})
        members = [paths[member["file_number"]] for member in one.rows]
        works.append(
            ConversionWork(
                str(home.root),
                site_code,
                key,
                subject,
                session,
                tuple((str(file.path), file.sha256) for file in members),
                told.contrast,
                told.is_contrast_enhanced,
                gaps=gaps_of(one),
            )
        )
    results: dict[int, Converted] = {
        at: Converted("refused", *_MIXED) for at, one in enumerate(found) if has_mixed_patients(one)
    }
    waiting = [at for at in range(len(found)) if at not in results]
    results |= run_all(mapper, convert_dicom, works, waiting, progress, "converting series")
    for at, one in enumerate(found):
        rows[at] |= outcome(results[at]) | _grid_columns(one, results[at])
        for member in one.rows:
            fates[member["file_number"]] = fate_of("dicom", rows[at]["series_key"], results[at])
    return rows, fates


def _grid_columns(series: Series, converted: Converted) -> dict[str, Any]:
    direction = series.first["phase_direction"]
    if not converted.affine or direction is None:
        return {"phase_encoding_axis": None}
    return {"phase_encoding_axis": phase_axis(converted.affine, tuple(direction))}

