"""Registry tables of a simulated network, as each site's own system would export them.

Here: people, their visits, relapses, courses, sessions and consent, and the faults planted among them. Not here: how a
table is written (`tables`), scans (`scanner`). What is not planted breaks no rule of the dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

FAMILY = (
    "Abelsen Baudoin Cattanei Dahlhaus Esposti Fontvieille Grimstad Hohenleitner Innocentini Jorstad Kaltenbrunn "
    "Lavergnat Marchegiano Nordvik Oberwieser Pellegrinetti Quesnoy Rindalen Santacroce Thormahlen Ungaretti "
    "Vestergard Wittelsbeck Xanthopoul Ydstebo Zanardelli"
).split()
GIVEN = {
    "F": "Alberta Brunhild Clelia Dagny Eloise Fiammetta Gudrun Honorine Ingeborg Josephine Kunigunde Leontine".split(),
    "M": "Arnulf Baptiste Corrado Dagfinn Etienne Folkert Gaspard Haldor Ippolito Joachim Knut Leopoldo".split(),
}
LAST_DAY = date(2026, 9, 30)
"""End of the extract; nothing of the network lies after it."""
TREATMENTS = ("interferon_beta", "glatiramer_acetate", "dimethyl_fumarate", "natalizumab", "ocrelizumab", "fingolimod")
STOP_REASONS = ("disease_progression", "not_tolerating", "dmt_switch", "patient_preference")
FAULTS = (
    "edss_half", "edss_half", "edss_eleven", "edss_eleven", "onset_after_diagnosis", "onset_after_diagnosis",
    "stop_before_start", "missing_consent", "withdrawn", "bad_date", "bad_date", "unknown_code", "stop_without_reason",
)  # fmt: skip
"""What is planted at each site, one patient each; duplicates between sites come on top."""
EXPECTED = {
    "edss_half": ("visit", "R01"),
    "edss_eleven": ("visit", "R01"),
    "onset_after_diagnosis": ("patient", "R05b"),
    "stop_before_start": ("treatment", "R07a"),
    "stop_without_reason": ("treatment", "R07b"),
    "missing_consent": ("patient", "CONSENT_MISSING"),
    "withdrawn": ("consent", "withdrawn"),
    "bad_date": ("visit", "unreadable_date"),
    "unknown_code": ("relapse", "unknown_code"),
    "duplicate_patient": ("patient", "R18"),
}
"""Fault -> the table it stands in, and the rule or refusal that finds it."""

Row = dict[str, Any]


@dataclass
class Person:
    """One patient of a site. `patient_id` is the site's own."""

    patient_id: str
    family_name: str
    given_name: str
    sex: str
    birth_date: date
    fault: str | None = None

    @property
    def shares(self) -> bool:
        """Whether scans of this person may be used to fill a site's delivery."""
        return self.fault not in ("missing_consent", "withdrawn")


@dataclass
class Registry:
    """One site's tables: dictionary variable -> value per row; `fault` marks the row that a planted fault stands in."""

    site: str
    people: list[Person]
    tables: dict[str, list[Row]] = field(default_factory=dict)


def make_registries(rng: np.random.Generator, sites: list[str], subjects: int) -> list[Registry]:
    """People and tables of every site.

    Parameters
    ----------
    subjects
        Patients per site. Each planted fault takes one; with fewer than 13 patients later kinds are left out, and the
        next site begins with them.
    """
    registries = []
    for number, site in enumerate(sites):
        people = [_person(rng, site, i) for i in range(subjects)]
        shift = (number * subjects) % len(FAULTS)
        faults = (FAULTS[shift:] + FAULTS[:shift])[: max(0, subjects - 2)]
        chosen = rng.permutation(subjects)[: len(faults)]
        for index, fault in zip(chosen, faults, strict=True):
            people[index].fault = fault
        registries.append(Registry(site, people))
    _duplicate(rng, registries)
    for registry in registries:
        tables: dict[str, list[Row]] = {name: [] for name in ("patient", "visit", "relapse", "treatment")}
        tables |= {"mri_session": [], "consent": []}
        for person in registry.people:
            _live(rng, person, tables)
        registry.tables = tables
    return registries


def _person(rng: np.random.Generator, site: str, index: int) -> Person:
    sex = "F" if rng.random() < 0.7 else "M"
    born = date(int(rng.integers(1955, 1998)), 1, 1) + timedelta(days=int(rng.integers(365)))
    return Person(
        patient_id=f"{site[:2]}{1000 + index * 7 + int(rng.integers(7))}",
        family_name=str(rng.choice(FAMILY)),
        given_name=str(rng.choice(GIVEN[sex])),
        sex=sex,
        birth_date=born,
    )


def _duplicate(rng: np.random.Generator, registries: list[Registry]) -> None:
    """One person of each site is a patient of the next site too, under another number."""
    if len(registries) < 2:
        return
    pairs = zip(registries, registries[1:] + registries[:1], strict=True)
    for first, second in pairs:
        free = [[p for p in r.people if p.fault is None] for r in (first, second)]
        if not free[0] or not free[1]:
            continue
        one, other = (people[int(rng.integers(len(people)))] for people in free)
        one.fault = other.fault = "duplicate_patient"
        for name in ("family_name", "given_name", "sex", "birth_date"):
            setattr(other, name, getattr(one, name))


def _live(rng: np.random.Generator, person: Person, tables: dict[str, list[Row]]) -> None:
    who = person.patient_id
    onset = person.birth_date + timedelta(days=int(rng.integers(18 * 365, 26 * 365)))
    diagnosis = onset + timedelta(days=int(rng.integers(30, 900)))
    first_visit = diagnosis + timedelta(days=int(rng.integers(250, 400)))
    course = str(rng.choice(["RRMS", "RRMS", "RRMS", "SPMS", "PPMS", "CIS"]))
    if person.fault == "onset_after_diagnosis":
        onset, diagnosis = diagnosis + timedelta(days=100), diagnosis
    tables["patient"].append(
        {
            "patient_id": who, "family_name": person.family_name, "given_name": person.given_name, "sex": person.sex,
            "birth_date": person.birth_date, "onset_date": onset, "diagnosis_date": diagnosis, "disease_course": course,
            "fault": _mark(person, "onset_after_diagnosis", "missing_consent", "duplicate_patient"),
        }
    )  # fmt: skip
    tables["visit"].extend(_visits(rng, person, first_visit))
    tables["relapse"].extend(_relapses(rng, person, diagnosis))
    tables["treatment"].extend(_courses(rng, person, diagnosis))
    for day in _days(rng, first_visit, int(rng.integers(1, 4)), 300, 420):
        given = bool(rng.random() < 0.4)
        tables["mri_session"].append(
            {
                "patient_id": who, "mri_date": day, "mri_region": str(rng.choice(["brain", "brain", "brain_spine"])),
                "is_contrast_given": given, "gd_lesion_count": int(rng.poisson(0.6)) if given else None,
                "t2_lesion_count": int(rng.integers(2, 60)),
            }
        )  # fmt: skip
    if person.fault != "missing_consent":
        signed = first_visit + timedelta(days=int(rng.integers(0, 90)))
        gone = person.fault == "withdrawn"
        tables["consent"].append(
            {
                "patient_id": who, "consent_date": signed, "is_registry_consented": True, "is_imaging_consented": True,
                "is_research_sharing_consented": True,
                "withdrawal_date": signed + timedelta(days=400) if gone else None,
                "fault": _mark(person, "withdrawn"),
            }
        )  # fmt: skip


def _mark(person: Person, *kinds: str) -> str | None:
    return person.fault if person.fault in kinds else None


def _days(rng: np.random.Generator, start: date, count: int, least: int, most: int) -> Iterable[date]:
    day = start
    for _ in range(count):
        if day <= LAST_DAY:
            yield day
        day += timedelta(days=int(rng.integers(least, most)))


def _visits(rng: np.random.Generator, person: Person, start: date) -> list[Row]:
    edss = float(rng.choice([1.0, 1.5, 2.0, 2.5, 3.0, 4.0]))
    rows: list[Row] = []
    for day in _days(rng, start, int(rng.integers(3, 7)), 150, 380):
        edss = float(np.clip(edss + rng.choice([-0.5, 0.0, 0.0, 0.5]), 1.0, 9.0))
        rows.append(
            {
                "patient_id": person.patient_id, "visit_date": day, "visit_type": str(rng.choice(["clinic", "remote"])),
                "edss": edss, "fs_pyramidal": int(rng.integers(0, 4)), "fs_cerebellar": int(rng.integers(0, 4)),
                "fs_visual": int(rng.integers(0, 3)), "t25fw_s": round(float(rng.uniform(3.5, 20)), 1),
                "sdmt_score": int(rng.integers(22, 75)),
            }
        )  # fmt: skip
    row = rows[int(rng.integers(len(rows)))]
    if person.fault in ("edss_half", "edss_eleven"):
        row["edss"] = 0.5 if person.fault == "edss_half" else 11.0
        row["fault"] = person.fault
    if person.fault == "bad_date":
        # A row of its own: what the fault refuses is then nobody's measurement.
        rows.append({**row, "visit_date": (31, 2, 2019), "fault": person.fault})
    return rows


def _relapses(rng: np.random.Generator, person: Person, start: date) -> list[Row]:
    count = max(int(rng.integers(0, 4)), person.fault == "unknown_code")
    rows: list[Row] = [
        {
            "patient_id": person.patient_id, "relapse_date": day, "relapse_duration_days": int(rng.integers(3, 60)),
            "relapse_severity": str(rng.choice(["mild", "moderate", "severe"])),
            "is_steroid_treated": bool(rng.random() < 0.6),
        }
        for day in _days(rng, start + timedelta(days=60), count, 90, 900)
    ]  # fmt: skip
    if person.fault == "unknown_code":
        rows[0] |= {"relapse_severity": "zz", "fault": person.fault}
    return rows


def _courses(rng: np.random.Generator, person: Person, start: date) -> list[Row]:
    is_faulty = person.fault in ("stop_before_start", "stop_without_reason")
    names = rng.permutation(TREATMENTS)[: max(int(rng.integers(0, 3)), int(is_faulty))]
    rows: list[Row] = []
    begin = start + timedelta(days=int(rng.integers(20, 90)))
    for position, name in enumerate(names):
        is_last = position == len(names) - 1
        end = begin + timedelta(days=int(rng.integers(200, 1200)))
        stopped = (not is_last or is_faulty) and end < LAST_DAY
        rows.append(
            {
                "patient_id": person.patient_id, "dmt": str(name), "start_date": begin,
                "stop_date": end if stopped else None,
                "stop_reason": str(rng.choice(STOP_REASONS)) if stopped else None,
            }
        )  # fmt: skip
        begin = end + timedelta(days=int(rng.integers(30, 90)))
    if is_faulty:
        first = rows[0]
        first["fault"] = person.fault
        if person.fault == "stop_before_start":
            first["stop_date"] = first["start_date"] - timedelta(days=40)
            first["stop_reason"] = first["stop_reason"] or STOP_REASONS[0]
        else:
            first["stop_date"], first["stop_reason"] = first["start_date"] + timedelta(days=150), None
    return rows
