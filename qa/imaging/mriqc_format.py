"""Measures written as MRIQC writes its own, so that tools made for MRIQC read them.

Here: one JSON a series in a BIDS tree and one `group_<contrast>.tsv` each, with MRIQC's metrics and names only. Not
here: computing them (`qa.imaging.iqm`). MRIQC writes -1 where it has no answer; here a metric without one is left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from qa.imaging import iqm
from qa.imaging.answers import METHOD_VERSION
from warehouse.lake import write_bytes, write_json

IQMS = frozenset(
    [
        *iqm.TISSUE_NAMES, *iqm.AIR_NAMES, "efc", "fber", "qi_1", "qi_2", "inu_med", "inu_range", "fwhm_avg",
        *(f"{kind}_{axis}" for kind in ("fwhm", "size", "spacing") for axis in iqm.AXES),
    ]
)  # fmt: skip
COUNTS = frozenset(f"size_{axis}" for axis in iqm.AXES)


def iqms(measures: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """MRIQC's metrics among a series' measures (rows with `measure` and `value`), those without a value left out."""
    found = {m["measure"]: m["value"] for m in measures if m["measure"] in IQMS and m["value"] is not None}
    return {name: int(value) if name in COUNTS else value for name, value in sorted(found.items())}


def write(folder: Path, series: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Write every series that has metrics below a folder.

    Parameters
    ----------
    series
        With `bids_path` (relative, of the image), `contrast` and `measures` (rows with `measure` and `value`).

    Returns
    -------
    The files written, group tables last.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    written = []
    for one in series:
        metrics = iqms(one["measures"])
        if "efc" not in metrics or one["bids_path"] is None:
            continue
        path = PurePosixPath(one["bids_path"])
        name = path.name.removesuffix(".nii.gz")
        groups.setdefault(one["contrast"], []).append({"bids_name": name} | metrics)
        content = metrics | {
            "bids_meta": {"modality": one["contrast"]},
            "provenance": {"software": "ranvier", "version": METHOD_VERSION, "definitions": "mriqc 24.0.2"},
        }
        target = folder / path.parent / f"{name}.json"
        write_json(target, content)
        written.append(target)
    return written + [_write_group(folder, contrast, rows) for contrast, rows in sorted(groups.items())]


def _write_group(folder: Path, contrast: str, rows: list[dict[str, Any]]) -> Path:
    columns = ["bids_name", *sorted({key for row in rows for key in row} - {"bids_name"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="n/a", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: str(row["bids_name"])))
    target = folder / f"group_{contrast}.tsv"
    write_bytes(target, text.getvalue().encode())
    return target
