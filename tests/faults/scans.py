"""Simulated MRI series to put into a delivery of `tests.faults.homes`."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

from ingestion.simulator.dicom import Subject
from ingestion.simulator.make import SeriesTask, make_series
from ingestion.simulator.network import CENTRES, Centre
from ingestion.simulator.truth import PlannedScan


def add_scans(
    delivery: Path, cache: Path, scans: list[tuple[str, str, str, float | None]], *, is_small: bool = False
) -> None:
    """Put one series per (patient, contrast, kind, severity) into a delivery.

    Parameters
    ----------
    cache
        Keeps the simulated anatomy, which takes ten seconds to build.
    is_small
        Voxels twice as large each way: an eighth of the work, and no scan that would pass.
    """
    centre = _small(CENTRES[0]) if is_small else CENTRES[0]
    for number, (patient, contrast, kind, severity) in enumerate(scans):
        planned = PlannedScan(number, 0, int(patient[1:]), 1, contrast, kind, severity)
        subject = Subject(patient, f"Doe{patient}{delivery.parent.name}", "Ann", "F", dt.date(1980, 2, 3))
        acquired = dt.datetime(2016, 3, 4, 9, 20 * (number % 2))
        folder = delivery / "scans" / patient / str(number)
        make_series(SeriesTask(cache, folder, centre, planned, subject, acquired, f"study {patient}", 1))


def _small(centre: Centre) -> Centre:
    protocols = {}
    for contrast, one in centre.scanner.protocols.items():
        matrix = (one.matrix[0] // 2, one.matrix[1] // 2)
        protocols[contrast] = replace(
            one, matrix=matrix, pixel_mm=one.pixel_mm * 2, slices=one.slices // 2, slice_mm=one.slice_mm * 2
        )
    return replace(centre, scanner=replace(centre.scanner, protocols=protocols))
