"""Which DICOM files make one series, and what its headers say together.

Here: splitting a SeriesInstanceUID that holds several images (echoes, components, orientations), missing slices, and the
header half of a `raw_imaging__series` row. Not here: reading headers (`index`), contrast rules (`classify`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingestion.imaging.classify import Classification, classify
from ingestion.imaging.model import Gaps
from ingestion.imaging.settings import load, names_any
from warehouse.pseudonyms import Pseudonyms

_SAME_DIRECTION = 0.995
"""Cosine above which slices count as parallel (6 degrees)."""
_MOST_ORIENTATIONS = 8
"""Radial scans have a direction per slice: they are left as they are."""
_SAME_PLACE_MM = 0.01
_MOST_GRID = 2
"""Of a volume that lacks more than half of its slices, gaps are counted but not filled."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """Files that make one image, in the order of their numbers."""

    rows: tuple[Row, ...]
    part: str
    """Empty where the SeriesInstanceUID holds this image only."""

    @property
    def first(self) -> Row:
        return self.rows[0]


def split(rows: list[Row]) -> list[Series]:
    """Group index rows of one delivery into series."""
    by_uid: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_uid.setdefault((row["study_uid"], row["series_uid"]), []).append(row)
    found = []
    for group in by_uid.values():
        directions = _directions(group)
        parts: dict[tuple[Any, ...], list[Row]] = {}
        for row, direction in zip(group, directions, strict=True):
            echo = None if row["image_class"] == "enhanced" else row["echo_time_ms"]
            key = (row["image_class"], row["component"], round(echo or 0, 2), direction, row["rows"], row["columns"])
            parts.setdefault(key, []).append(row)
        for key, members in parts.items():
            found.append(Series(tuple(members), "" if len(parts) == 1 else "|".join(str(value) for value in key)))
    return found


def _directions(rows: list[Row]) -> list[int]:
    """The number of each row's slice orientation within its group."""
    seen: list[np.ndarray] = []
    numbers = []
    for row in rows:
        if row["normal"] is None:
            numbers.append(0)
            continue
        normal = np.array(row["normal"])
        alike = [at for at, other in enumerate(seen) if abs(float(normal @ other)) > _SAME_DIRECTION]
        if not alike:
            seen.append(normal)
            alike = [len(seen) - 1]
        numbers.append(alike[0])
    return numbers if len(seen) <= _MOST_ORIENTATIONS else [0] * len(rows)


def is_mosaic(series: Series) -> bool:
    """Whether each file tiles the slices of a volume, so that slice positions are not in its header."""
    return "MOSAIC" in (series.first["image_type"] or "").split("\\")


def missing_slices(series: Series) -> int | None:
    """Slices that are absent between the first and the last, and slices absent from single volumes.

    None where headers do not tell: mosaics, and headers without positions. What is cut off at either end is not
    counted, since nothing says that it was ever there.
    """
    stacked = _stack(series)
    if stacked is None:
        return None
    places, volumes, absent = stacked
    steps = _steps(places)
    return absent + int(sum(step - 1 for step in steps)) * volumes


def gaps_of(series: Series) -> Gaps | None:
    """The evenly spaced grid of a single volume with gaps; None without gaps, or when most of it is missing."""
    stacked = _stack(series)
    if stacked is None or stacked[1] != 1 or series.first["normal"] is None:
        return None
    places = stacked[0]
    steps = _steps(places)
    if not any(step > 1 for step in steps) or sum(steps) > _MOST_GRID * len(steps):
        return None
    numbers = tuple(int(number) for number in np.cumsum([0, *steps]))
    return Gaps(numbers, places[0], (places[-1] - places[0]) / numbers[-1], tuple(series.first["normal"]))


def _stack(series: Series) -> tuple[list[float], int, int] | None:
    """(slice positions in order, volumes, slices absent from single volumes), where headers tell them."""
    places = [place for row in series.rows for place in row["positions"] or []]
    if is_mosaic(series) or len(places) < sum(row["frames"] for row in series.rows):
        return None
    counts: Counter[float] = Counter()
    last = -np.inf
    for place in sorted(places):
        last = place if place - last > _SAME_PLACE_MM else last
        counts[last] += 1
    volumes = max(counts.values())
    return list(counts), volumes, sum(volumes - count for count in counts.values())


def _steps(places: list[float]) -> list[int]:
    """Distances between neighbouring slices in units of the usual one."""
    if len(places) < 3:
        return [1] * (len(places) - 1)
    steps = np.diff(places)
    return [max(1, int(step)) for step in np.round(steps / np.median(steps))]


def has_mixed_patients(series: Series) -> bool:
    """Whether files of one series name different patients."""
    return len({(row["patient_id"], row["birth_date"]) for row in series.rows}) > 1


def highest_b_value(series: Series) -> float | None:
    found = [row["b_value"] for row in series.rows if row["b_value"] is not None]
    return max(found, default=None)


def manufacturer_of(stated: str) -> str | None:
    """The manufacturer as one word where it is known, else as stated."""
    for row in load("vendor_tags.yaml")["manufacturers"]:
        if names_any(stated, [row["pattern"]]):
            return str(row["name"])
    return stated or None


def isocentre(manufacturer: str | None, table_position: float | None) -> tuple[bool, str]:
    """Whether image positions are relative to the scanner's isocentre, with the reason."""
    rule = load("vendor_tags.yaml")["isocentre"].get(manufacturer or "")
    if rule is None:
        return False, "nothing is known about where this manufacturer puts the origin of image positions"
    if rule["known"] and table_position is None:
        return False, "the header does not state the table position"
    return bool(rule["known"]), str(rule["reason"])


def keys_of(series: list[Series], pseudonyms: Pseudonyms, site_code: str) -> list[tuple[str, str, str]]:
    """(subject, session, series) keys of each series.

    The subject is the PatientID, as in registry tables. Without one it is the patient's name, else the study: such a
    subject meets no registry row, so no release can hold it until the site sends the number.
    """
    subjects = [
        (one.first["patient_id"],)
        if one.first["patient_id"]
        else ("no-id", one.first["patient_name"] or one.first["study_uid"])
        for one in series
    ]
    sessions = [(one.first["study_uid"],) for one in series]
    images = [(one.first["series_uid"], one.part) if one.part else (one.first["series_uid"],) for one in series]
    return list(
        zip(
            pseudonyms.keys("subject", site_code, subjects),
            pseudonyms.keys("session", site_code, sessions),
            pseudonyms.keys("series", site_code, images),
            strict=True,
        )
    )


def describe(series: Series, pseudonyms: Pseudonyms, site_code: str) -> tuple[Row, Classification]:
    """The columns of `raw_imaging__series` that headers alone decide, and the contrast."""
    row = series.first
    told = classify(row, highest_b_value(series))
    numbers = [one["file_number"] for one in series.rows]
    manufacturer = manufacturer_of(row["manufacturer"])
    known, reason = isocentre(manufacturer, row["table_position_mm"])
    serial = row["device_serial"] or row["station"]
    moments = [one["acquired"] for one in series.rows if one["acquired"]]
    return {
        "source": "dicom",
        "files_count": len(numbers),
        "first_file_number": min(numbers),
        "last_file_number": max(numbers),
        "series_number": row["series_number"],
        "contrast": told.contrast,
        "contrast_reason": told.reason,
        "is_derived": told.is_derived,
        "is_contrast_enhanced": told.is_contrast_enhanced,
        "is_header_phantom": told.is_header_phantom,
        "acquisition_datetime": min(moments, default=None),
        "manufacturer": manufacturer,
        "model": row["model"] or None,
        "scanner_key": pseudonyms.key("scanner", site_code, row["manufacturer"], serial) if serial else None,
        "software_version": row["software_version"] or None,
        "field_strength_t": row["field_strength_t"],
        "acquisition_dimension": row["acquisition_dimension"],
        "repetition_time_ms": row["repetition_time_ms"],
        "echo_time_ms": row["echo_time_ms"],
        "inversion_time_ms": row["inversion_time_ms"],
        "flip_angle_deg": row["flip_angle_deg"],
        "slice_thickness_mm": row["slice_thickness_mm"],
        "missing_slices_count": missing_slices(series),
        "patient_position": row["patient_position"],
        "image_type": row["image_type"] or None,
        "table_position_mm": row["table_position_mm"],
        "is_isocentre_known": known,
        "isocentre_reason": reason,
    }, told
