"""What the simulated network will send and what is wrong with it, decided before anything is made.

Here: which series has which fault, who is scanned, and `truth.json`. Not here: making files (`make`). The pipeline
never reads the truth; it exists to count against.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingestion.simulator.faults import RULES, SEVERITIES, SOUND
from ingestion.simulator.network import Centre
from ingestion.simulator.people import SCANNED, Person, make_person, session_row
from ingestion.simulator.registry import (
    EXPECTED,
    FAULTS_PER_SITE,
    Fault,
    plant,
    plant_duplicate,
)

FAULTY_SHARE = 0.605
"""29 of 48 series; two in five are sound."""
DUPLICATE_PAIRS = 4


@dataclass(frozen=True)
class PlannedScan:
    """One series to be made; `number` counts over the network and seeds it."""

    number: int
    site: int
    person: int
    session: int
    contrast: str
    kind: str
    severity: float | None


def faults_wanted(count: int) -> list[tuple[str, float]]:
    """Which faults a network of `count` series gets: all kinds at severity 1, then at 0.5, then at 0.75, and again."""
    every = [(kind, severity) for severity in SEVERITIES for kind in RULES]
    return [every[i % len(every)] for i in range(int(FAULTY_SHARE * count))]


def plan_scans(centres: list[Centre], scans: int, seed: int) -> list[PlannedScan]:
    """Deal faults to series: T1w and FLAIR of each session, in random order.

    An off-centre head is planted only where the header tells the isocentre; elsewhere it cannot be seen by anybody.
    """
    rng = np.random.default_rng([seed, 1])
    slots = [(site, i) for site in range(len(centres)) for i in range(scans)]
    order = [slots[i] for i in rng.permutation(len(slots))]
    dealt: dict[tuple[int, int], tuple[str, float | None]] = {}
    wanted = sorted(faults_wanted(len(slots)), key=lambda pair: pair[0] != "off_centre")
    for kind, severity in wanted:
        fitting = [s for s in order if kind != "off_centre" or centres[s[0]].scanner.isocentre_known]
        if fitting:
            dealt[fitting[0]] = (kind, severity)
            order.remove(fitting[0])
    sound: tuple[str, float | None] = (SOUND, None)
    planned = []
    for number, (site, i) in enumerate(slots):
        what, strength = dealt.get((site, i), sound)
        contrast = ("T1w", "FLAIR")[i % 2]
        planned.append(PlannedScan(number, site, i // 2, i // 2, contrast, what, strength))
    return planned


def scanned_count(scans: int) -> int:
    """How many patients of a site are scanned: a T1w and a FLAIR each."""
    return (scans + 1) // 2


def session_day(site: int, person: int, is_later: bool) -> dt.date:
    """The day on which a patient was scanned."""
    return SCANNED + dt.timedelta(days=(30 if is_later else 0) + person + site)


@dataclass
class Plan:
    """People of each site, of its first and (empty for most) second delivery, and the faults planted in them."""

    people: list[list[Person]]
    later: list[list[Person]]
    faults: list[Fault]


def plan_registry(centres: list[Centre], subjects: int, scans: int, seed: int) -> Plan:
    """Make the patients and spoil some. The first of each site are the scanned ones, and nothing is wrong with them."""
    taken: set[tuple[str, str]] = set()
    scanned = scanned_count(scans)
    people: list[list[Person]] = []
    later: list[list[Person]] = []
    faults: list[Fault] = []
    for index, centre in enumerate(centres):
        rng = np.random.default_rng([seed, 2, index])
        numbers = rng.choice(900, size=subjects + 2, replace=False) + 100 if subjects < 800 else np.arange(subjects + 2)
        found = [make_person(rng, centre.languages, centre.id_pattern.format(n=int(n)), taken) for n in numbers]
        here, new = found[:subjects], found[subjects:]
        second: list[Person] = []
        if centre.second_delivery:
            second = [_revisit(person, rng) for person in here[:4]] + new
        for i, person in enumerate(here[:scanned]):
            consent = person.rows["consent"][0]
            consent["is_research_sharing_consented"] = True
            is_later = bool(centre.second_delivery) and scanned > 1 and i == scanned - 1
            row = session_row(rng, person.patient_id, session_day(index, i, is_later))
            if is_later:
                second.append(Person(person.patient_id, _only("mri_session", row)))
            else:
                person.rows["mri_session"].append(row)
        people.append(here)
        later.append(second)
        spare = here[scanned : len(here) - 2]
        faults += plant(centre.site.code, index, spare[:FAULTS_PER_SITE], rng)
    if subjects >= scanned + 2:
        for k in range(DUPLICATE_PAIRS if len(centres) > 1 else 1):
            one, other = k % len(centres), (k + 1) % len(centres)
            if k >= len(centres):
                break
            faults.append(
                plant_duplicate(people[one][-1], centres[one].site.code, people[other][-2], centres[other].site.code)
            )
    return Plan(people, later, faults)


def _only(entity: str, row: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    empty: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("patient", "visit", "relapse", "treatment", "mri_session", "consent")
    }
    return empty | {entity: [row]}


def _revisit(person: Person, rng: np.random.Generator) -> Person:
    """One more visit of a patient, a month after the first delivery."""
    last = dict(person.rows["visit"][-1])
    last["visit_date"] = dt.date(2026, 10, 5) + dt.timedelta(days=int(rng.integers(0, 14)))
    return Person(person.patient_id, _only("visit", last))


def registry_truth(faults: list[Fault]) -> list[dict[str, Any]]:
    """`registry_faults` of truth.json; known once the tables are laid out."""
    return [
        {
            "kind": fault.kind, "site": fault.site, "delivery": fault.delivery, "file": fault.file, "row": fault.row,
            "entity": fault.entity, "expected": EXPECTED[fault.kind], **({"also": fault.also} if fault.also else {}),
        }
        for fault in faults
    ]  # fmt: skip
