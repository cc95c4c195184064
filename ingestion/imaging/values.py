"""Values out of one DICOM header, wherever the vendor and the kind of file put them.

Here: text, numbers, geometry, times, and vendors' own elements of a data set that may be incomplete or wrong; each is
None (or empty) where it cannot be told. Not here: which values make a row (`index`), or what they mean (`classify`).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from ingestion.imaging.header import Header
from ingestion.imaging.settings import load


@cache
def private_tags(purpose: str) -> list[tuple[int, int, str, int]]:
    """(group, offset, creator, component) of the vendors' tags that are read for a purpose."""
    return [
        (int(row["group"], 16), int(row["element"], 16), row["creator"], row["component"])
        for row in load("vendor_tags.yaml")[purpose]
    ]


def text_of(value: Any) -> str:
    """The value as text, several values joined by a backslash as DICOM does; empty for none."""
    if value is None:
        return ""
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(str(part) for part in value)
    return str(value).strip()


def number_of(value: Any) -> float | None:
    """The value, or the first of several, as a finite number."""
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def whole_number_of(value: Any) -> int | None:
    """As `number_of`, cut to an integer that 32 bits hold."""
    found = number_of(value)
    return None if found is None or abs(found) >= 2**31 else int(found)


def numbers_of(value: Any, count: int) -> list[float] | None:
    """Exactly `count` finite numbers."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        found = [float(part) for part in value]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def frames_of(ds: Any) -> list[pydicom.Dataset]:
    """An enhanced file's groups per frame; empty for a classic file."""
    return list(ds.get("PerFrameFunctionalGroupsSequence") or [])


def first_value(ds: Any, keyword: str, depth: int = 4) -> Any:
    """A value at the top, else in the shared functional groups, else in those of the first frame."""
    value = ds.get(keyword)
    if value not in (None, ""):
        return value
    groups = list(ds.get("SharedFunctionalGroupsSequence") or [])[:1] + frames_of(ds)[:1]
    for group in groups:
        found = value_within(group, Tag(keyword), depth)
        if found not in (None, ""):
            return found
    return None


def value_within(ds: Any, tag: int, depth: int) -> Any:
    """A value in a data set, or in the first item of its sequences down to `depth`."""
    if tag in ds:
        return ds[tag].value
    if depth:
        for element in ds:
            if element.VR == "SQ" and element.value:
                found = value_within(element.value[0], tag, depth - 1)
                if found not in (None, ""):
                    return found
    return None


def private_number(ds: Any, purpose: str) -> float | None:
    """A vendor's own value for a purpose of vendor_tags.yaml, under its creator only."""
    scopes = [ds]
    groups = list(ds.get("SharedFunctionalGroupsSequence") or [])[:1] + frames_of(ds)[:1]
    for group in groups:
        scopes += [element.value[0] for element in group if element.VR == "SQ" and element.value]
    for scope in scopes:
        for group, offset, creator, component in private_tags(purpose):
            try:
                if isinstance(scope, Header):
                    value = scope.private(group, creator, offset)
                else:
                    value = scope.private_block(group, creator)[offset].value
            except KeyError:
                continue
            if isinstance(value, bytes):
                value = _bytes_value(value)
            parts = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
            found = number_of(parts[component] if component < len(parts) else parts[0])
            if found is not None:
                return found
    return None


def _bytes_value(value: bytes) -> Any:
    """A value whose type an implicit transfer syntax lost: text of numbers, else one little-endian float."""
    text = value.rstrip(b"\0 ")
    if re.fullmatch(rb"[0-9+\-.eE\\ ]+", text):
        return text.decode("ascii").split("\\")
    if len(value) == 4:
        return float(np.frombuffer(value, "<f4")[0])
    if len(value) == 8:
        return float(np.frombuffer(value, "<f8")[0])
    return None


def acquired_at(ds: Any) -> dt.datetime | None:
    """When the image was acquired, in the scanner's local time, from the most specific tags that hold it."""
    stamp = text_of(first_value(ds, "AcquisitionDateTime"))
    candidates = [(stamp[:8], re.split(r"[+\-&]", stamp[8:])[0])] + [
        (text_of(ds.get(f"{level}Date")), text_of(ds.get(f"{level}Time")))
        for level in ("Acquisition", "Series", "Study")
    ]
    for date, time in candidates:
        day = re.fullmatch(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", date)
        if not day:
            continue
        clock = re.match(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?", time)
        hour, minute, second, part = clock.groups() if clock else (None, None, None, None)
        try:
            return dt.datetime(
                int(day[1]), int(day[2]), int(day[3]),
                int(hour or 0), int(minute or 0), min(int(second or 0), 59), int((part or "0").ljust(6, "0")),
            )  # fmt: skip
        except ValueError:
            continue
    return None


def complex_component(ds: Any, image_type: str) -> str:
    """magnitude, phase, real or imaginary, from the header and the image type."""
    parts = set(image_type.upper().split("\\")[2:])
    stated = text_of(first_value(ds, "ComplexImageComponent")).upper()
    if stated == "PHASE" or parts & {"P", "PHASE", "PHASE MAP"}:
        return "phase"
    if stated == "REAL" or (parts & {"R", "R_FFE", "R_IR", "R_SE", "REAL"} and "M" not in parts):
        return "real"
    if stated == "IMAGINARY" or (parts & {"I", "I_FFE", "I_IR", "I_SE", "IMAGINARY"} and "M" not in parts):
        return "imaginary"
    return "magnitude"


def slice_geometry(ds: Any) -> tuple[list[float] | None, list[float] | None]:
    """Slice normal, and each frame's position along it in mm."""
    frames = frames_of(ds)
    orientation = numbers_of(first_value(ds, "ImageOrientationPatient"), 6)
    if orientation is None:
        return None, None
    a, b = orientation[:3], orientation[3:]
    normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    if frames:
        places = [numbers_of(value_within(frame, Tag("ImagePositionPatient"), 2), 3) for frame in frames]
    else:
        places = [numbers_of(first_value(ds, "ImagePositionPatient"), 3)]
    if any(place is None for place in places):
        return normal, None
    return normal, [
        place[0] * normal[0] + place[1] * normal[1] + place[2] * normal[2] for place in places if place is not None
    ]


def phase_direction(ds: Any) -> list[float] | None:
    """Unit vector of phase encoding: along a row of pixels or along a column."""
    orientation = numbers_of(first_value(ds, "ImageOrientationPatient"), 6)
    stated = text_of(first_value(ds, "InPlanePhaseEncodingDirection")).upper()
    if orientation is None or stated not in ("ROW", "COL", "COLUMN"):
        return None
    return orientation[:3] if stated == "ROW" else orientation[3:]
