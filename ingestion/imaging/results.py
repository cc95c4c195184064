"""From conversions to columns and fates, the same for DICOM and NIfTI.

Here: running conversions through the mapper, and what their outcome means for a series' row and files. Not here: the
conversions (`convert`, `nifti_delivery`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ingestion.imaging.model import ConversionWork, Converted, FileFate
from warehouse.errors import RanvierError
from warehouse.work import Mapper, Progress, serial

log = logging.getLogger(__name__)

_WORKER_FAILED = ("conversion_failed", "the series could not be converted; export it again")


def run_all(
    mapper: Mapper,
    function: Callable[[ConversionWork], Converted],
    works: Sequence[ConversionWork],
    waiting: Sequence[int],
    progress: Progress,
    what: str,
) -> dict[int, Converted]:
    """Do the waiting pieces of work; what fails twice refuses its own series only.

    Raises
    ------
    RanvierError
        The disk cannot be written; nothing of the delivery is recorded.
    """
    results: dict[int, Converted] = {}

    def key(number: int) -> str:
        return works[waiting[number]].series_key

    progress(what, 0, len(waiting))
    for number, result in mapper(function, [works[at] for at in waiting]):
        if isinstance(result, Exception):
            # A worker that died says nothing about the series, and a refusal would be final: it is tried here.
            log.warning("a worker failed (%s); %s is converted here instead", type(result).__name__, key(number))
            result = _here(function, works[waiting[number]])
        results[waiting[number]] = result
        progress(what, len(results), len(waiting))
    return results


def _here(function: Callable[[ConversionWork], Converted], work: ConversionWork) -> Converted:
    _, result = next(serial(function, [work]))
    if isinstance(result, OSError):
        raise RanvierError(
            f"The lake cannot be written ({type(result).__name__}); make room on its disk and run again"
        ) from result
    if isinstance(result, Exception):
        # The error may quote a path or a header, so only its kind is logged.
        log.warning("converting %s failed (%s)", work.series_key, type(result).__name__)
        return Converted("refused", *_WORKER_FAILED)
    return result


def fate_of(kind: Any, series_key: str, converted: Converted) -> FileFate:
    return FileFate(kind, series_key, converted.status, converted.reason_code, converted.reason)


def outcome(converted: Converted) -> dict[str, Any]:
    """The columns of a series that its conversion decides."""
    shape, zooms = converted.shape, converted.zooms
    columns: dict[str, Any] = {
        name: getattr(converted, name)
        for name in (
            "image_sha256", "bids_path", "converter_version", "ledger_sha256", "status", "reason_code", "reason",
        )
    }  # fmt: skip
    if shape:
        volumes = 1
        for length in shape[3:]:
            volumes *= length
        columns |= {
            "columns_count": shape[0],
            "rows_count": shape[1],
            "slices_count": shape[2],
            "volumes_count": volumes,
            "spacing_x_mm": zooms[0],
            "spacing_y_mm": zooms[1],
            "spacing_z_mm": zooms[2],
        }
    return columns
