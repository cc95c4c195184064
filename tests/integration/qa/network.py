"""A network in a lake, written table by table, for reports to be made of."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import yaml
from PIL import Image

from tests.unit.qa.frames import ROWS
from warehouse import lake
from warehouse.home import Home, Network
from warehouse.tables import schema_of

SITES = ("BASEL", "PADUA", "LYON", "GRAZ")
FAULTS: dict[int, tuple[str, str, str]] = {
    3: (
        "IMG_MOTION",
        "the image shows motion (smear 4.1 %, limit 2.0)",
        "Ask the patient to lie still and repeat the scan.",
    ),
    6: (
        "IMG_CUT_OFF",
        "the field of view cuts the head on the right side (1210 mm2 of brain at the edge, limit 100)",
        "Move the field of view to the patient's right, or widen it, and repeat the scan.",
    ),
    7: (
        "IMG_CUT_OFF",
        "the field of view cuts the head at the occiput (posterior; 640 mm2 of brain at the edge, limit 100)",
        "Move the field of view towards the back of the head and repeat the scan.",
    ),
}
MEASURES = {
    "snr_total": (14, 2, "1", "higher"),
    "cnr": (3.1, 0.4, "1", "higher"),
    "noise_pct": (2.2, 0.3, "%", "lower"),
    "bias_cv_pct": (8, 2, "%", "lower"),
    "motion_smear_pct": (0.8, 0.3, "%", "lower"),
    "offset_z_mm": (3, 6, "mm", "target"),
    "roll_deg": (0.4, 2, "deg", "target"),
}


def keys(site: str, number: int) -> dict[str, str]:
    base = f"{SITES.index(site) + 1:04x}{number:012x}"
    return {"subject": f"sbj_{base}", "session": f"ses_{base}", "series": f"ser_{base}", "delivery": f"dlv_{base}"}


def mosaic(number: int) -> bytes:
    """A picture with some structure; what is in it does not matter here."""
    y, x = np.mgrid[0:504, 0:840]
    value = 90 + 80 * np.cos((x % 168 - 84) / 40) * np.cos((y % 168 - 84) / 40) + 8 * np.sin(number + x / 5)
    buffer = io.BytesIO()
    Image.fromarray(value.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_network(home: Home, sites: tuple[str, ...] = SITES) -> Network:
    """Sites with two deliveries each: sound and broken rows, twelve scans of which three fail and one is no head."""
    home.root.mkdir(parents=True, exist_ok=True)
    listed = [{"code": s, "name": f"{s.title()} MS centre", "contact": f"ms@{s.lower()}.example.org"} for s in sites]
    home.network_file.write_text(yaml.safe_dump({"name": "Test network", "sites": listed}), encoding="utf-8")
    for site in sites:
        _write_site(home, site)
    return home.network()


def _write_site(home: Home, site: str) -> None:
    accepted = []
    for number, month in ((1, 3), (2, 6)):
        delivery = keys(site, number)["delivery"]
        accepted.append({"site_code": site, "delivery_key": delivery, "sequence_number": number})
        base = {"site_code": site, "delivery_key": delivery}
        _write(home, "raw_lake__delivery", [base | _delivery(number, month)], site, delivery)
        _write(home, "raw_lake__file", [base | row for row in _files(site, number)], site, delivery)
        _write(home, "raw_registry__refusal", [base | row for row in _refusals(number)], site, delivery)
        _write(home, "raw_imaging__series", [base | row for row in _series(site, number)], site, delivery)
        for entity, rows in ROWS.items():
            full = [
                {"row_key": f"{delivery}-{entity}-{n}", "file_number": 1, "source_row": n} | row | _own(site, row)
                for n, row in enumerate(_rows(entity, rows, number), start=2)
            ]
            _write(home, f"raw_registry__{entity}", [base | row for row in full], site, delivery)
    _write(home, "raw_lake__accepted", accepted, site)
    _write_judgement(home, site)


def _write(home: Home, table: str, rows: list[dict[str, Any]], site: str, delivery: str | None = None) -> None:
    lake.write_part(home, table, pl.DataFrame(rows, schema=schema_of(table)), site, delivery)


def _own(site: str, row: dict[str, Any]) -> dict[str, str]:
    return {"subject_key": keys(site, int(str(row["subject_key"])[-1]))["subject"]}


def _rows(entity: str, rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The second delivery repeats the first with two broken visits, and nobody has withdrawn but subject 1."""
    rows = [dict(row) for row in rows]
    if entity == "visit" and number == 2:
        rows[2]["edss"], rows[4]["edss"] = 0.5, 11.0
    if entity == "treatment" and number == 2:
        rows[1]["stop_date"] = date(2017, 1, 1)
    return rows


def _delivery(number: int, month: int) -> dict[str, Any]:
    return {
        "display_name": f"delivery {number}",
        "received_datetime": datetime(2026, month, 2, 9, 30, tzinfo=UTC),
        "files_count": 1806,
        "bytes_count": 10**9,
        "status": "read",
    }


def _files(site: str, number: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"file_number": 1, "kind": "registry", "status": "accepted"}]
    for index, series in enumerate(_series(site, number)):
        first = 2 + index * 20
        rows += [
            {"file_number": f, "kind": "dicom", "status": "accepted", "series_key": series["series_key"]}
            for f in range(first, first + 20)
        ]
    refused = {"kind": "other", "status": "refused", "reason_code": "not_an_image", "reason": "neither table nor image"}
    rows.append({"file_number": 200 + number} | refused)
    return rows


def _refusals(number: int) -> list[dict[str, Any]]:
    if number == 1:
        return []
    common = {"entity": "visit", "file_number": 1, "variable": "visit_date", "reason_code": "unreadable_date"}
    reason = "visit_date is not a date of the form day.month.year"
    return [common | {"row_key": f"refused-{n}", "source_row": n, "reason": reason} for n in (9, 10, 11, 15)]


def _series(site: str, number: int) -> list[dict[str, Any]]:
    made = []
    for index in range(6):
        n = (number - 1) * 6 + index
        made.append(
            {
                "series_key": keys(site, n)["series"],
                "session_key": keys(site, n // 2)["session"],
                "subject_key": keys(site, 1 + n % 3)["subject"],
                "contrast": "bold" if n == 11 else ("T1w", "FLAIR")[n % 2],
                "files_count": 20,
                "first_file_number": 2 + index * 20,
                "last_file_number": 21 + index * 20,
                "acquisition_datetime": datetime(2026, 1 + n // 3, 5),
                "status": "accepted",
            }
        )
    return made


def _write_judgement(home: Home, site: str) -> None:
    rng = np.random.default_rng(SITES.index(site))
    measures, verdicts, findings = [], [], []
    now = datetime(2026, 6, 2, 10, tzinfo=UTC)
    for number in (1, 2):
        delivery = keys(site, number)["delivery"]
        base = {"site_code": site, "delivery_key": delivery}
        for row in _series(site, number):
            n = int(row["series_key"][-6:], 16)
            rule, reason, action = FAULTS.get(n, ("", "", ""))
            verdict: dict[str, Any] = {"verdict": "fail" if rule else "pass", "reasons": [reason] if rule else []}
            verdict |= {"rule_ids": [rule] if rule else [], "is_refused": False}
            if n == 11:
                verdict |= {"verdict": "undetermined", "reasons": ["measures for bold not available yet"]}
            if n == 10:
                rule, reason, action = "IMG_NOT_HEAD", "not a head", "Check that the series is a head scan."
                verdict |= {"verdict": "fail", "reasons": [reason], "is_refused": True, "rule_ids": [rule]}
            picture = mosaic(n)
            digest, _ = lake.put_object(home, lambda handle, data=picture: handle.write(data), ".png")
            sha = None if n == 11 else digest
            verdicts.append(base | {"series_key": row["series_key"], "picture_sha256": sha} | verdict)
            if rule:
                findings.append(
                    base
                    | {
                        "finding_key": f"{rule}-{site}-{n}",
                        "rule_id": rule,
                        "quality_class": "image",
                        "severity": "error",
                        "entity_kind": "series",
                        "entity_key": row["series_key"],
                        "subject_key": row["subject_key"],
                        "where_found": "T1w",
                        "message": reason,
                        "action": action,
                        "state": "open",
                        "first_seen_datetime": now,
                        "last_seen_datetime": now,
                    }
                )
            if n < 11:
                for name, (mean, sd, unit, direction) in MEASURES.items():
                    value = float(rng.normal(mean + SITES.index(site) * sd / 2, sd))
                    measure = {"measure": name, "value": value, "unit": unit, "direction": direction}
                    measures.append(base | {"series_key": row["series_key"]} | measure)
    _write(home, "raw_qa__measure", measures, site)
    _write(home, "raw_qa__verdict", verdicts, site)
    _write(home, "raw_qa__finding", findings, site)
