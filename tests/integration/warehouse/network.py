"""A small network written straight into a lake: two sites, subjects of every state of consent.

Here: rows that look like what ingestion and qa write. Not here: assertions.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from warehouse import lake
from warehouse.acceptance import accept
from warehouse.dictionary import Entity, load_dictionary
from warehouse.home import Home
from warehouse.releases import Build
from warehouse.tables import schema_of

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def key(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(8)}"


@dataclass
class Lake:
    """A home, and the keys of who shares and who does not."""

    home: Home
    shared: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    by_state: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, list[str]] = field(default_factory=dict)


def frame(table: str, rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    schema = schema_of(table)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def put(
    home: Home,
    table: str,
    rows: list[dict[str, Any]],
    site: str,
    delivery: str | None = None,
) -> None:
    lake.write_part(
        home,
        table,
        frame(table, [{"site_code": site} | r for r in rows]),
        site,
        delivery,
    )


def delivery_row(site: str, delivery: str, status: str = "read", hours: int = 0) -> dict[str, Any]:
    return {
        "delivery_key": delivery,
        "display_name": "2026-11",
        "received_datetime": NOW + timedelta(hours=hours),
        "files_count": 3,
        "status": status,
        "reason_code": None if status == "read" else "unreadable_archive",
    }


def make_home(root: Path, sites: tuple[str, ...] = ("AA", "BB")) -> Home:
    home = Home(root)
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    network = {"sites": [{"code": site, "name": f"Centre {site}"} for site in sites]}
    home.network_file.write_text(yaml.safe_dump(network), encoding="utf-8")
    lake.ensure_schema_parts(home)
    return home


def row_of(base: dict[str, Any], **values: Any) -> dict[str, Any]:
    return base | {"row_key": secrets.token_hex(12)} | values


HERE = ("patient", "visit", "relapse", "treatment", "mri_session", "consent")
"""Tables whose rows tell a story; every other table of the dictionary has one plain row per subject."""


def plain_row(entity: Entity) -> dict[str, Any]:
    """A row with a value in every column that needs one: the same day, and the first code."""
    needed = [v for v in entity.stored_variables if v.required or v.name == entity.event_date]
    return {v.name: next(iter(v.codes)) if v.codes else date(2021, 3, 4) for v in needed}


STATES = ("shared",) * 9 + ("no_consent_row", "not_shared", "withdrawn", "no_imaging")


def make_lake(root: Path) -> Lake:
    """Per site nine subjects who share, and one each without consent row, not sharing, withdrawn, without imaging."""
    made = Lake(make_home(root))
    home = made.home
    for number, site in enumerate(("AA", "BB")):
        delivery = key("dlv")
        made.deliveries[site] = [delivery]
        entities = load_dictionary().entities
        tables: dict[str, list[dict[str, Any]]] = {name: [] for name in entities}
        series, measures, verdicts, findings = [], [], [], []
        for index, state in enumerate(STATES):
            subject, session, image = key("sbj"), key("ses"), key("ser")
            keep = made.shared if state in ("shared", "no_imaging") else made.hidden
            keep.add(subject)
            (made.hidden if state == "no_imaging" else keep).update({session, image})
            made.by_state[f"{site}/{state}"] = subject
            base = {
                "delivery_key": delivery,
                "subject_key": subject,
                "file_number": 1,
                "source_row": index + 2,
            }
            row = partial(row_of, base)
            tables["patient"].append(
                row(
                    # Those who share are one class: with 20 of them, k-anonymity would empty every smaller one.
                    sex="F" if state in ("shared", "no_imaging") else "M",
                    birth_date=date(1970 + index % 5, 3, 7),
                    onset_date=date(2005, 5, 1 + index),
                    diagnosis_date=date(2006, 1, 5),
                    disease_course="PPMS" if index == 2 else "RRMS",
                )
            )
            for visit in range(3):
                when = date(2022 + visit, 6, 11 + index)
                tables["visit"].append(
                    row(
                        visit_date=when,
                        visit_type="clinic",
                        edss=2.0 + visit / 2,
                        sdmt_score=50,
                    )
                )
            tables["relapse"].append(row(relapse_date=date(2021, 2, 3), relapse_severity="mild"))
            tables["treatment"].append(
                row(
                    dmt="ocrelizumab" if index % 2 else "natalizumab",
                    start_date=date(2020, 1, 9),
                )
            )
            tables["mri_session"].append(row(mri_date=date(2023, 6, 20), mri_region="brain", t2_lesion_count=12))
            for name in entities.keys() - set(HERE):
                tables[name].append(row(**plain_row(entities[name])))
            if state != "no_consent_row":
                tables["consent"].append(
                    row(
                        consent_date=date(2019, 4, 4),
                        is_registry_consented=True,
                        is_imaging_consented=state != "no_imaging",
                        is_research_sharing_consented=state != "not_shared",
                        withdrawal_date=date(2026, 10, 1) if state == "withdrawn" else None,
                    )
                )
            series.append(
                {
                    "delivery_key": delivery,
                    "series_key": image,
                    "session_key": session,
                    "subject_key": subject,
                    "source": "dicom",
                    "files_count": 170,
                    "contrast": "T1w",
                    "acquisition_datetime": datetime(2023, 6, 20, 10, 30),
                    "manufacturer": "Siemens",
                    "model": "Prisma",
                    "scanner_key": f"scn_{number:016x}",
                    "software_version": "VE11C",
                    "field_strength_t": 2.89,
                    "spacing_x_mm": 1.0,
                    "status": "accepted",
                    "image_sha256": secrets.token_hex(32),
                }
            )
            for name in ("snr", "cnr", "cjv"):
                measures.append(
                    {
                        "delivery_key": delivery,
                        "series_key": image,
                        "measure": name,
                        "value": 10.0 + index,
                        "unit": "1",
                        "direction": "higher",
                        "method_version": "1",
                    }
                )
            verdicts.append(
                {
                    "delivery_key": delivery,
                    "series_key": image,
                    "verdict": "fail" if index == 3 else "pass",
                    "reasons": ["SNR 3 is below 5"] if index == 3 else [],
                    "rule_ids": ["IMG_SNR"] if index == 3 else [],
                    "is_refused": False,
                    "judged_datetime": NOW,
                }
            )
            findings.append(
                {
                    "delivery_key": delivery,
                    "finding_key": secrets.token_hex(12),
                    "rule_id": "IMG_SNR",
                    "entity_kind": "series",
                    "entity_key": image,
                    "severity": "warning",
                    "state": "open",
                    "first_seen_datetime": NOW,
                    "last_seen_datetime": NOW,
                }
            )
        refused = series[0] | {
            "series_key": key("ser"),
            "status": "refused",
            "reason_code": "unreadable",
        }
        melon = series[1] | {"series_key": key("ser")}
        verdicts.append(verdicts[0] | {"series_key": melon["series_key"], "verdict": "fail", "is_refused": True})
        made.hidden |= {refused["series_key"], melon["series_key"]}
        put(home, "raw_lake__delivery", [delivery_row(site, delivery)], site, delivery)
        for name, rows in tables.items():
            put(home, f"raw_registry__{name}", rows, site, delivery)
        put(home, "raw_imaging__series", [*series, refused, melon], site, delivery)
        put(home, "raw_qa__measure", measures, site)
        put(home, "raw_qa__verdict", verdicts, site)
        put(home, "raw_qa__finding", findings, site)
        accept(home, site, [delivery], now=NOW)
    return made


def run_dbt(build: Build) -> None:
    """`dbt build` into the build folder, without Dagster."""
    command = [sys.executable, "-m", "dbt.cli.main", "build", "--quiet"]
    environment = os.environ | build.environment
    done = subprocess.run(command, env=environment, cwd=build.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
