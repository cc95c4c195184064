"""Findings have an identity and a life.

Here: merging what a check found into what is already known (open, notified, acknowledged, resolved, accepted,
rejected), a person's decision on one, and the same person under two keys (rule R18). Not here: how anything is found.
One Parquet file per site, replaced as a whole under a lock of that site.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl

from qa.model import Finding
from qa.variables import where_row
from warehouse import lake
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import schema_of

TABLE = "raw_qa__finding"
ACTIVE = ("open", "notified", "acknowledged")
"""States of a finding that still waits for something."""
State = Literal["open", "notified", "acknowledged", "resolved", "accepted", "rejected"]
DUPLICATE_RULE = "R18"


@contextmanager
def _locked(home: Home, site_code: str) -> Iterator[None]:
    """One writer per site at a time; the lock goes with the process that held it."""
    folder = home.cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"finding-{site_code}").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def upsert(home: Home, site_code: str, findings: list[Finding], *, now: datetime, scope: set[str] | None) -> None:
    """Merge what was found now into the site's findings.

    A finding seen for the first time opens; one seen again keeps its first date and its state, except that a resolved
    one opens again. One that is not seen again is resolved, if its rule lies in `scope`. What a person has accepted or
    rejected stays so. Doing it twice changes nothing but `last_seen_datetime`.

    Parameters
    ----------
    now
        Time zone aware.
    scope
        Ids of the rules that were judged; None for all. A rule that came out undetermined does not belong here.
    """
    with _locked(home, site_code):
        known = {row["finding_key"]: row for row in lake.read_table(home, TABLE, site_code).iter_rows(named=True)}
        seen = {finding.key: finding for finding in findings}
        for key, row in known.items():
            is_judged = scope is None or row["rule_id"] in scope
            if key not in seen and is_judged and row["state"] in ACTIVE:
                row["state"] = "resolved"
        for key, finding in seen.items():
            known[key] = _merged(known.get(key), finding, now)
        _write(home, site_code, list(known.values()))


def _merged(row: dict[str, Any] | None, finding: Finding, now: datetime) -> dict[str, Any]:
    state, first_seen = "open", now
    if row is not None:
        first_seen = row["first_seen_datetime"]
        state = "open" if row["state"] == "resolved" else row["state"]
    return {
        "site_code": finding.site_code,
        "delivery_key": finding.delivery_key,
        "finding_key": finding.key,
        "rule_id": finding.rule_id,
        "quality_class": finding.quality_class,
        "severity": finding.severity,
        "entity_kind": finding.entity_kind,
        "entity_key": finding.entity_key,
        "subject_key": finding.subject_key,
        "where_found": finding.where_found,
        "message": finding.message,
        "action": finding.action,
        "state": state,
        "first_seen_datetime": first_seen,
        "last_seen_datetime": now,
    }


def _write(home: Home, site_code: str, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=schema_of(TABLE)).sort("finding_key")
    lake.write_part(home, TABLE, frame, site_code)


def decide(home: Home, site_code: str, finding_key: str, state: State) -> None:
    """Set the state of one finding: a person's decision. Raises RanvierError when the site has no such finding."""
    with _locked(home, site_code):
        rows = lake.read_table(home, TABLE, site_code).to_dicts()
        chosen = [row for row in rows if row["finding_key"] == finding_key]
        if not chosen:
            raise RanvierError(f"Site {site_code} has no finding {finding_key}; list them with: ranvier finding list")
        chosen[0]["state"] = state
        _write(home, site_code, rows)


def mark_notified(home: Home, site_code: str) -> None:
    """The site has been told of everything that was open."""
    with _locked(home, site_code):
        rows = lake.read_table(home, TABLE, site_code).to_dicts()
        for row in rows:
            if row["state"] == "open":
                row["state"] = "notified"
        _write(home, site_code, rows)


def find_duplicate_patients(home: Home, *, now: datetime | None = None) -> None:
    """Rule R18: one person under two subject keys, within a site or across sites, as a warning to each site concerned.

    Compared by the keyed hash of the minimum dataset (names, sex, date of birth; MSBase). A site learns that the person
    is known elsewhere in the network, not where.
    """
    now = now or datetime.now(UTC)
    groups: dict[str, list[tuple[str, str]]] = {}
    for identity, subject_key, site_code in Pseudonyms(home).same_person():
        groups.setdefault(identity, []).append((subject_key, site_code))
    per_site: dict[str, dict[str, Finding]] = {}
    for members in groups.values():
        for subject_key, site_code in members:
            is_own = any(site == site_code and other != subject_key for other, site in members)
            finding = _duplicate(home, site_code, subject_key, is_own)
            per_site.setdefault(site_code, {}).setdefault(finding.key, finding)
    with_findings = {folder.name.removeprefix("site=") for folder in (home.lake / TABLE).glob("site=*")} - {"_schema"}
    for site_code in sorted(with_findings | set(per_site)):
        found = list(per_site.get(site_code, {}).values())
        upsert(home, site_code, found, now=now, scope={DUPLICATE_RULE})


def _duplicate(home: Home, site_code: str, subject_key: str, is_own: bool) -> Finding:
    rows = lake.read_table(home, "raw_registry__patient", site_code).filter(pl.col("subject_key") == subject_key)
    last = rows.sort("file_number", "source_row").to_dicts()[-1:] or [{}]
    where = where_row("patient", last[0].get("source_row"), last[0].get("file_number"))
    if is_own:
        message = "the same person (name, sex, date of birth) stands in your patient table under two identifiers"
        action = "Decide which identifier is right and send the person's data under that one only."
    else:
        message = "the same person (name, sex, date of birth) is also a patient of another site of the network"
        action = "Ask the data manager, who can see both; do not remove the patient on your own."
    return Finding(
        rule_id=DUPLICATE_RULE,
        site_code=site_code,
        entity_kind="subject",
        entity_key=subject_key,
        severity="warning",
        quality_class="consistency",
        message=message,
        action=action,
        where_found=where,
        delivery_key=last[0].get("delivery_key"),
        subject_key=subject_key,
    )
