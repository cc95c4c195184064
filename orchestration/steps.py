"""What is done to one site and to a release, step by step, as plain functions.

Here: the order of things and who is told; Dagster's assets and the command line call these. Not here: Dagster, reading
formats (`ingestion`), judging (`qa`), building (`warehouse`). A typed error of one delivery or one site becomes a
finding and goes no further.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from ingestion import deliveries as landing
from ingestion.receive import receive
from orchestration.news import note_done
from qa import findings as finding_store
from qa import images, variables
from qa.data_docs import build_data_docs
from qa.model import Finding
from qa.reports import is_told, render_report, write_mail
from warehouse import acceptance, lake, releases, retention
from warehouse.errors import HomeError, RanvierError
from warehouse.home import Home
from warehouse.work import Mapper, Progress, serial, silent

log = logging.getLogger(__name__)

IMAGE_RULES: dict[str, str] = {
    "IMG_SNR": "The signal of each head scan stands far enough above its noise.",
    "IMG_CONTRAST": "Grey and white matter are told apart by contrast in each head scan.",
    "IMG_POSITION": "The head lies near the centre of the field of view.",
    "IMG_ROTATION": "The head is not rotated too far from the scanner's axes.",
    "IMG_CUT_OFF": "The field of view holds the whole brain and does not cut the head.",
    "IMG_MOTION": "Scans are free of the blurring and ringing that a moving head leaves.",
    "IMG_GHOST": "Scans are free of ghosts along the phase-encoding direction.",
    "IMG_BIAS": "Brightness does not vary too much over one tissue.",
    "IMG_EXCLUSION": "A rater would most likely keep each T1w scan (advice, no part of the verdict).",
    "IMG_MISSING_SLICES": "No slice is missing from a series.",
    "IMG_PROTOCOL": "Acquisition parameters keep to the network's protocol.",
    "IMG_NOT_HEAD": "Every series sent as a head scan shows a head.",
    "IMG_PHANTOM": "No series is a scan of a phantom.",
    "DEID_PRIVATE": "No identifier stood in a private field of a header when the scan arrived.",
}
"""Image rules and what each asks, as the Dagster UI shows them."""
UNREADABLE = "DELIVERY_UNREADABLE"
LOOSE_FILES = "LOOSE_FILES"
DELIVERY_RULES: dict[str, str] = {
    UNREADABLE: "Every delivery that arrived could be read.",
    LOOSE_FILES: "Every file lies in a delivery folder.",
}


def utc_now() -> datetime:
    """The time, as every table keeps it."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Received:
    """What became of a site's landing folder."""

    new_count: int = 0
    unfinished_count: int = 0
    """Deliveries still being copied; they wait for the next run."""
    unreadable_count: int = 0
    loose_files_count: int = 0
    delivery_keys: list[str] = field(default_factory=list)
    """Every readable delivery of the site, in the order received."""


def readable_deliveries(home: Home, site_code: str) -> list[str]:
    """Keys of the site's deliveries that could be read and that no later one supersedes, in the order received."""
    rows = lake.read_table(home, "raw_lake__delivery", site_code).filter(pl.col("status") == "read")
    replaced = list(landing.superseded(home, site_code).values())
    kept = rows.filter(~pl.col("delivery_key").is_in(replaced))
    return kept.sort("received_datetime", "delivery_key")["delivery_key"].to_list()


def receive_site(home: Home, site_code: str, mapper: Mapper = serial, progress: Progress = silent) -> Received:
    """Receive every complete delivery of a site that is new.

    Deliveries that cannot be read become findings; half-copied ones are left untouched.

    Raises
    ------
    HomeError
        The home or its network.yaml cannot be used, or has no such site.
    """
    network = home.network()
    network.site(site_code)
    found = landing.find_deliveries(home, network, site_code)
    new = [delivery for delivery in found if delivery.is_complete and not delivery.is_received]
    failures: list[Finding] = []
    for number, delivery in enumerate(new):
        progress(f"{site_code}: receiving", number, len(new))
        try:
            receive(home, network, delivery, mapper=mapper, progress=progress)
        except HomeError:  # a full disk or a wrong profile is not the site's to mend
            raise
        except RanvierError as error:
            log.warning("site %s: delivery %d of %d cannot be received: %s", site_code, number + 1, len(new), error)
            failures.append(_unreadable(site_code, delivery.delivery_key or str(number + 1), str(error), ""))
    progress(f"{site_code}: receiving", len(new), len(new))
    unreadable = lake.read_table(home, "raw_lake__delivery", site_code).filter(pl.col("status") == "unreadable")
    for row in unreadable.iter_rows(named=True):
        failures.append(
            _unreadable(site_code, row["delivery_key"], row["reason"] or row["reason_code"], row["display_name"])
        )
    loose = landing.loose_files(home, site_code)
    findings = failures + _loose(site_code, loose)
    finding_store.upsert(home, site_code, findings, now=utc_now(), scope=set(DELIVERY_RULES))
    return Received(
        new_count=len(new),
        unfinished_count=sum(not delivery.is_complete for delivery in found),
        unreadable_count=len(failures),
        loose_files_count=loose,
        delivery_keys=readable_deliveries(home, site_code),
    )


def _unreadable(site_code: str, entity_key: str, reason: str, where: str) -> Finding:
    known_key = entity_key if entity_key.startswith("dlv_") else None
    return Finding(
        rule_id=UNREADABLE,
        site_code=site_code,
        entity_kind="delivery",
        entity_key=entity_key,
        severity="error",
        quality_class="delivery",
        message=f"The delivery could not be read: {reason}",
        action="Send the delivery again as a new folder.",
        where_found=where,
        delivery_key=known_key,
    )


def _loose(site_code: str, count: int) -> list[Finding]:
    if not count:
        return []
    return [
        Finding(
            rule_id=LOOSE_FILES,
            site_code=site_code,
            entity_kind="site",
            entity_key=site_code,
            severity="warning",
            quality_class="delivery",
            message=f"{count} files lie outside any delivery folder and were not read.",
            action="Put them into a delivery folder of their own.",
        )
    ]


def check_variables(home: Home, site_code: str) -> list[Finding]:
    """Judge the site's registry rows by the dictionary; findings are kept with their life.

    Great Expectations' pages about the site are made as well, at `lake/docs/<site>/`.
    """
    keys = readable_deliveries(home, site_code)
    found, judged = variables.validate_site(home, site_code, keys)
    # A rule that could not be evaluated says nothing about its earlier findings: they stay as they are.
    scope = variables.decided_rules(home, site_code)
    finding_store.upsert(home, site_code, found, now=utc_now(), scope=scope)
    build_data_docs(home, site_code, judged)
    return found


def measure_images(home: Home, site_code: str, mapper: Mapper = serial, progress: Progress = silent) -> int:
    """Measure the site's images that no earlier run measured. Returns how many were newly computed."""
    keys = readable_deliveries(home, site_code)
    return images.measure_site(home, home.network(), site_code, keys, mapper=mapper, progress=progress)


def judge_images(home: Home, site_code: str) -> list[Finding]:
    """Give each series its verdict by the thresholds of today, without measuring; findings are kept with their life."""
    now = utc_now()
    found = images.judge_site(home, home.network(), site_code, readable_deliveries(home, site_code), now=now)
    # Rules that are new to this table of ours still belong to images: else their findings could never be resolved.
    scope = set(IMAGE_RULES) | {finding.rule_id for finding in found}
    finding_store.upsert(home, site_code, found, now=now, scope=scope)
    return found


def accept_site(home: Home, site_code: str) -> int:
    """Let releases use what could be read: the last step of a site. Returns how many deliveries are accepted now."""
    keys = readable_deliveries(home, site_code)
    acceptance.accept(home, site_code, keys, now=utc_now(), supersedes=landing.superseded(home, site_code))
    if images.are_measured(home, site_code, keys):  # else the next run has something to try again
        note_done(home, home.network(), site_code)
    return lake.read_table(home, "raw_lake__accepted", site_code).height


def verdict_counts(home: Home, site_code: str) -> dict[str, int]:
    """How many series of the site pass, fail, or are undetermined."""
    return dict(Counter(lake.read_table(home, "raw_qa__verdict", site_code)["verdict"].to_list()))


def start_release(home: Home) -> releases.Build:
    """Look for patients that two sites sent, then open a build for dbt to fill."""
    finding_store.find_duplicate_patients(home)
    return releases.start_build(home, now=utc_now())


def publish_release(home: Home, build: releases.Build) -> bool:
    """Pass the build through the gate and make it the current release, unless publishing is manual.

    What is more than the home keeps is removed then. Returns whether it was published.

    Raises
    ------
    ReleaseError
        The gate found something wrong; the current release stays.
    """
    releases.finish_build(home, build)
    settings = home.network().releases
    if settings.publish == "manual":
        return False
    releases.publish(home, build.version, reason="publishing is automatic")
    if settings.keep is not None:
        retention.prune(home)
    return True


def sites_without_report(home: Home) -> list[str]:
    """Sites that were not told of the current release: its run died, or failed, between publishing and reporting."""
    version = releases.current_version(home)
    if version is None:
        return []
    return [site.code for site in home.network().sites if not is_told(home, site.code, version)]


@dataclass(frozen=True)
class Reported:
    """Which sites have a report on a release, and which could not be given one."""

    sites: list[str]
    failed: dict[str, str]
    """Site code -> the reason."""


def report_sites(home: Home, version: str, progress: Progress = silent) -> Reported:
    """Render and mail one report per site; a site that cannot be reported on does not hold up the others."""
    network = home.network()
    done: list[str] = []
    failed: dict[str, str] = {}
    for number, site in enumerate(network.sites):
        progress("reports", number, len(network.sites))
        try:
            render_report(home, network, site.code, version)
            write_mail(home, network, site.code, version, utc_now())
            done.append(site.code)
        except RanvierError as error:
            log.warning("site %s has no report on release %s: %s", site.code, version, error)
            failed[site.code] = str(error)
    progress("reports", len(network.sites), len(network.sites))
    return Reported(done, failed)
