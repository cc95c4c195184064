"""Image QA over the lake: which series to measure, where the answers are kept, what findings follow.

Here: glue between tables and `qa.imaging`; no arrays. Not here: formulas and limits (`qa/imaging/`), the life of a
finding (`qa.findings`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from qa.imaging import exclusion
from qa.imaging.answers import CATALOGUE
from qa.imaging.measure import HEADER_FACTS, VERSION, measure_image, nothing
from qa.imaging.verdict import Judgement, Trouble, judge, load_limits
from qa.imaging.volume import ImageUnreadable
from qa.model import Finding, Measure, Reason, Verdict
from warehouse.home import Home, Network
from warehouse.lake import (
    object_path,
    put_object,
    read_table,
    sha256_json,
    write_json,
    write_part,
)
from warehouse.tables import schema_of
from warehouse.work import Mapper, Progress, serial, silent

LOG = logging.getLogger(__name__)
IMAGE_SUFFIX = ".nii.gz"
LEDGER_SUFFIX = ".ledger.json"
PICTURE_SUFFIX = ".png"
IMAGE_RULES = frozenset(
    [
        "IMG_SNR",
        "IMG_CONTRAST",
        "IMG_POSITION",
        "IMG_ROTATION",
        "IMG_CUT_OFF",
        "IMG_MOTION",
        "IMG_GHOST",
        "IMG_BIAS",
        "IMG_EXCLUSION",
        "IMG_MISSING_SLICES",
        "IMG_PROTOCOL",
        "IMG_NOT_HEAD",
        "IMG_PHANTOM",
        "DEID_PRIVATE",
    ]
)


@dataclass(frozen=True)
class Job:
    """One series to measure: picklable, and all that the work needs."""

    home: Path
    key: str
    image_sha256: str
    facts: dict[str, Any]


def measure_key(series: Mapping[str, Any]) -> str:
    """Hash of everything a series' measures depend on: image bytes, header facts used, method versions."""
    return sha256_json({"image": series["image_sha256"], "facts": _facts(series), "version": VERSION})


def _facts(series: Mapping[str, Any]) -> dict[str, Any]:
    return {name: series.get(name) for name in HEADER_FACTS}


def _answer_path(home: Home, key: str) -> Path:
    return home.lake / "measures" / key[:2] / f"{key}.json"


def measure_job(job: Job) -> str:
    """Measure one series and store the answer under its key. Returns the key."""
    home = Home(job.home)
    target = _answer_path(home, job.key)
    if target.exists():
        return job.key
    try:
        path = object_path(home, job.image_sha256, IMAGE_SUFFIX)
        result = measure_image(path, job.facts, home.cache)
    except ImageUnreadable as error:
        result = nothing("image_unreadable", str(error))
    picture = None
    if result.picture:
        picture, _ = put_object(home, lambda handle: _write(handle, result.picture), PICTURE_SUFFIX)
    axes = {"ghost_pct": result.ghost_axis, "motion_smear_pct": result.motion_axis}
    answer = {
        "measures": [_as_json(m) for m in result.measures],
        "picture_sha256": picture,
        "notes": {name: f" along the {axis} axis" for name, axis in axes.items() if axis},
    }
    write_json(target, answer)
    return job.key


def _write(handle: Any, data: bytes) -> None:
    handle.write(data)


def _as_json(measure: Measure) -> dict[str, Any]:
    reason = measure.reason
    return {
        "name": measure.name,
        "value": measure.value,
        "reason": None if reason is None else [reason.code, reason.text],
        "method_version": measure.method_version,
        "mask_sha256": measure.mask_sha256,
    }


def _from_json(value: Mapping[str, Any]) -> Measure:
    kind = CATALOGUE[value["name"]]
    reason = None if value["reason"] is None else Reason(*value["reason"])
    return Measure(
        value["name"],
        value["value"],
        kind.unit,
        kind.direction,
        value["method_version"],
        reason,
        value["mask_sha256"],
    )


def _series(home: Home, site_code: str, delivery_keys: list[str]) -> list[dict[str, Any]]:
    """Accepted series of the given deliveries; a series that was sent twice counts in the last one only."""
    table = read_table(home, "raw_imaging__series", site_code)
    order = {key: position for position, key in enumerate(delivery_keys)}
    chosen: dict[str, dict[str, Any]] = {}
    rows = [r for r in table.iter_rows(named=True) if r["delivery_key"] in order and r["status"] == "accepted"]
    for row in sorted(
        rows,
        key=lambda r: (
            order[r["delivery_key"]],
            r["first_file_number"] or 0,
            r["series_key"],
        ),
    ):
        chosen[row["series_key"]] = row
    return list(chosen.values())


def measure_site(
    home: Home,
    network: Network,
    site_code: str,
    delivery_keys: list[str],
    *,
    mapper: Mapper = serial,
    progress: Progress = silent,
) -> int:
    """Measure what has not been measured yet, and write the site's `raw_qa__measure`.

    Returns
    -------
    Number of series newly computed. A series whose work failed (not its image: the process) is tried again next time.
    """
    del network  # measures depend on the image alone; limits are for `judge_site`
    series = _series(home, site_code, delivery_keys)
    jobs: dict[str, Job] = {}
    for row in series:
        if row["image_sha256"] is None:
            continue
        key = measure_key(row)
        if not _answer_path(home, key).exists():
            jobs[key] = Job(home.root, key, row["image_sha256"], _facts(row))
    computed = 0
    items = list(jobs.values())
    progress("measuring images", 0, len(items))
    for done, (index, result) in enumerate(mapper(measure_job, items), start=1):
        if isinstance(result, Exception):
            LOG.warning(
                "measuring image %s failed: %s",
                items[index].image_sha256[:12],
                type(result).__name__,
            )
        else:
            computed += 1
        progress("measuring images", done, len(items))
    _write_measures(home, site_code, series)
    return computed


def _write_measures(home: Home, site_code: str, series: list[dict[str, Any]]) -> None:
    rows = []
    for row in series:
        answer = _stored(home, row)
        for measure in [] if answer is None else map(_from_json, answer["measures"]):
            rows.append(
                {
                    "site_code": site_code,
                    "delivery_key": row["delivery_key"],
                    "series_key": row["series_key"],
                    "measure": measure.name,
                    "value": measure.value,
                    "unit": measure.unit,
                    "direction": measure.direction,
                    "reason_code": measure.reason.code if measure.reason else None,
                    "reason": measure.reason.text if measure.reason else None,
                    "method_version": measure.method_version,
                    "mask_sha256": measure.mask_sha256,
                }
            )
    write_part(
        home,
        "raw_qa__measure",
        pl.DataFrame(rows, schema=schema_of("raw_qa__measure")),
        site_code,
    )


def _stored(home: Home, series: Mapping[str, Any]) -> dict[str, Any] | None:
    if series["image_sha256"] is None:
        return None
    path = _answer_path(home, measure_key(series))
    if not path.exists():
        return None
    answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return answer


def are_measured(home: Home, site_code: str, delivery_keys: list[str]) -> bool:
    """Whether every accepted series of the deliveries has its measures; one whose worker died has none yet."""
    images = [one for one in _series(home, site_code, delivery_keys) if one["image_sha256"] is not None]
    return all(_answer_path(home, measure_key(one)).exists() for one in images)


def judge_site(
    home: Home,
    network: Network,
    site_code: str,
    delivery_keys: list[str],
    *,
    now: datetime,
) -> list[Finding]:
    """Judge every accepted series of the deliveries by the thresholds in force; measures nothing.

    Writes the site's `raw_qa__verdict` and returns the findings, one per rule and series.

    Raises
    ------
    ThresholdError
        network.yaml overrides a threshold that does not exist.
    """
    limits = load_limits(network.thresholds)
    rows, findings = [], []
    judged = [(series, _stored(home, series)) for series in _series(home, site_code, delivery_keys)]
    own = _own_values(judged)
    for series, answer in judged:
        risk = None
        if answer is None:
            text = "The image could not be measured; it is tried again in the next run"
            judgement = Judgement(Verdict("undetermined", (text,)), ())
        else:
            measures = {m.name: m for m in map(_from_json, answer["measures"])}
            risk = exclusion.exclusion_probability(measures, series, own.get(series["scanner_key"], []))
            notes = answer["notes"] | {exclusion.NAME: _named(risk.drivers)}
            judgement = judge(measures | {exclusion.NAME: risk.probability}, series, limits, notes)
        verdict = judgement.verdict
        rows.append(
            {
                "site_code": site_code,
                "delivery_key": series["delivery_key"],
                "series_key": series["series_key"],
                "verdict": verdict.value,
                "reasons": list(verdict.reasons),
                "rule_ids": list(verdict.rule_ids),
                "is_refused": verdict.is_refused,
                **_exclusion_columns(risk),
                "picture_sha256": answer["picture_sha256"] if answer else None,
                "thresholds_sha256": limits.sha256,
                "judged_datetime": now,
            }
        )
        findings += _image_findings(site_code, series, judgement)
        findings += _identifier_findings(home, site_code, series)
    write_part(
        home,
        "raw_qa__verdict",
        pl.DataFrame(rows, schema=schema_of("raw_qa__verdict")),
        site_code,
    )
    return findings


def _own_values(judged: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> dict[str | None, list[list[float]]]:
    """What the exclusion model reads of each scanner's scans, by scanner; scans of unknown scanners stand together."""
    model = exclusion.load_model()
    found: dict[str | None, list[list[float]]] = {}
    for series, answer in judged:
        measures = {m.name: m for m in map(_from_json, answer["measures"])} if answer else {}
        values = exclusion.values_of(measures, model)
        if values is not None and exclusion.why_not(measures, series, model) is None:
            found.setdefault(series["scanner_key"], []).append(values)
    return found


def _named(drivers: tuple[str, ...]) -> str:
    return f", mostly for {', '.join(drivers)}" if drivers else ""


def _exclusion_columns(risk: exclusion.Exclusion | None) -> dict[str, Any]:
    if risk is None:
        return {}
    reason = risk.probability.reason
    return {
        "exclusion_probability": risk.probability.value,
        "exclusion_drivers": list(risk.drivers),
        "exclusion_reason": reason.text if reason else None,
        "exclusion_version": risk.probability.method_version,
    }


def where_found(series: Mapping[str, Any]) -> str:
    """A series in the site's own terms: its contrast and which files of the delivery it came from."""
    first, last = series["first_file_number"], series["last_file_number"]
    if first is None:
        return str(series["contrast"])
    files = f"file {first}" if first == last or last is None else f"files {first}-{last}"
    return f"{series['contrast']}, {files}"


def _finding(
    site_code: str,
    series: Mapping[str, Any],
    rule_id: str,
    quality_class: str,
    message: str,
    action: str,
    severity: Literal["error", "warning"] = "error",
) -> Finding:
    return Finding(
        rule_id=rule_id,
        site_code=site_code,
        entity_kind="series",
        entity_key=series["series_key"],
        severity=severity,
        quality_class=quality_class,
        message=message,
        action=action,
        where_found=where_found(series),
        delivery_key=series["delivery_key"],
        subject_key=series["subject_key"],
    )


def _image_findings(site_code: str, series: Mapping[str, Any], judgement: Judgement) -> list[Finding]:
    by_rule: dict[str, list[Trouble]] = {}
    for trouble in judgement.troubles:
        by_rule.setdefault(trouble.rule_id, []).append(trouble)
    result = []
    for rule_id, parts in by_rule.items():
        message = ". ".join(part.text for part in parts) + "."
        action = " ".join(dict.fromkeys(part.action for part in parts))
        severity: Literal["error", "warning"] = "error" if any(p.severity == "error" for p in parts) else "warning"
        result.append(_finding(site_code, series, rule_id, "image", message, action, severity))
    return result


def _identifier_findings(home: Home, site_code: str, series: Mapping[str, Any]) -> list[Finding]:
    """A finding when de-identification had to remove identifiers: tags only, never their values."""
    digest = series["ledger_sha256"]
    if digest is None:
        return []
    path = object_path(home, digest, LEDGER_SUFFIX)
    if not path.exists():
        return []
    tags = sorted({entry["tag"] for entry in json.loads(path.read_text(encoding="utf-8")).get("identifiers_found", [])})
    if not tags:
        return []
    message = f"The header still held identifying data in {', '.join(tags)}; it was removed."
    action = "De-identify private tags too before sending; tell your data protection officer that names left the site."
    return [_finding(site_code, series, "DEID_PRIVATE", "delivery", message, action)]
