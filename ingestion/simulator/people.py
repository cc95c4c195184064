"""The fictional patients of the simulated network, in the dictionary's own terms.

Here: who they are and what happened to them, free of contradictions. Not here: faults and files (`registry`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from warehouse.dictionary import dmts

Row = dict[str, Any]
EXTRACT = dt.date(2026, 9, 28)
"""Nothing in the first deliveries is later."""
SCANNED = dt.date(2026, 9, 1)
"""First day of the sessions whose images are delivered."""
NAMES = {
    "italian": (
        ("Bellofiore", "Carnevaletti", "Dossorini", "Ferrantelli", "Gualdoni", "Lorenzaghi", "Montecalvi", "Nebbiolini",
         "Ortigari", "Pratolungo", "Quartieri", "Sassoforte", "Tavernari", "Vallesecca", "Zanobelli"),
        ("Ada", "Bruno", "Carla", "Dario", "Elisa", "Franco", "Gaia", "Ivo", "Lucia", "Nico", "Olga", "Pia"),
    ),
    "czech": (
        ("Bystřinová", "Chaloupecký", "Dubínková", "Horáčkovič", "Javornický", "Klenotová", "Lipenský", "Mokřadová",
         "Náprstek", "Olšavský", "Potůčková", "Rybníček", "Skalická", "Vrbenský", "Žabotová"),
        ("Adéla", "Bohdan", "Dana", "Emil", "Hana", "Ivan", "Jitka", "Karel", "Lenka", "Milan", "Nela", "Pavla"),
    ),
    "french": (
        ("Aubervigne", "Boisclairon", "Chantelouve", "Desrivières", "Étangville", "Fontcouverte", "Grangeneuve",
         "Hautecloque", "Jardinet", "Lavandou", "Montplaisant", "Noisetel", "Peupleraie", "Ruisselet", "Vertbois"),
        ("Agnès", "Blaise", "Chloé", "Denis", "Élise", "Gaston", "Irène", "Jules", "Léa", "Marc", "Noé", "Zoé"),
    ),
    "english": (
        ("Appletreewick", "Brackenridge", "Coldstone", "Dalehead", "Elmscroft", "Fernshaw", "Greenhow", "Hawksclough",
         "Ingleborne", "Kettlewick", "Langbeck", "Moorcroft", "Netherfold", "Oxenholme", "Thornwaite"),
        ("Alice", "Brian", "Celia", "Derek", "Ellen", "Frank", "Grace", "Harry", "Joan", "Keith", "Mabel", "Nora"),
    ),
}  # fmt: skip
DRUGS = (
    "interferon_beta", "glatiramer_acetate", "dimethyl_fumarate", "teriflunomide", "fingolimod", "natalizumab",
    "ocrelizumab", "ofatumumab", "cladribine",
)  # fmt: skip
STOPS = ("disease_progression", "not_tolerating", "patient_preference", "dmt_switch", "safety_monitoring")


@dataclass
class Person:
    """One patient of one site: rows by entity, each a mapping of variable to value."""

    patient_id: str
    rows: dict[str, list[Row]]

    @property
    def patient(self) -> Row:
        return self.rows["patient"][0]


def _between(rng: np.random.Generator, first: dt.date, last: dt.date) -> dt.date:
    return first + dt.timedelta(days=int(rng.integers(0, max(1, (last - first).days))))


def _spaced(rng: np.random.Generator, first: dt.date, last: dt.date, count: int, gap: int) -> list[dt.date]:
    """Up to `count` days in order, at least `gap` days apart."""
    days = []
    day = first
    for _ in range(count):
        day += dt.timedelta(days=gap + int(rng.integers(0, gap)))
        if day > last:
            break
        days.append(day)
    return days


def make_person(rng: np.random.Generator, languages: str, patient_id: str, taken: set[tuple[str, str]]) -> Person:
    """One patient whose rows contradict neither each other nor the dictionary, under a name not yet taken."""
    families, givens = NAMES[languages]
    while True:
        name = (str(rng.choice(families)), str(rng.choice(givens)))
        if name not in taken:
            break
        # More patients than names: double names go on for ever.
        name = (f"{name[0]}-{rng.choice(families)}", name[1])
        if name not in taken:
            break
    taken.add(name)
    birth = _between(rng, dt.date(1956, 1, 1), dt.date(2000, 12, 28))
    onset = _between(rng, max(dt.date(2004, 1, 1), birth.replace(year=birth.year + 18, day=1)), dt.date(2022, 6, 30))
    diagnosis = onset + dt.timedelta(days=int(rng.integers(20, 500)))
    course = str(rng.choice(("RRMS", "SPMS", "PPMS", "CIS"), p=(0.72, 0.14, 0.09, 0.05)))
    person = {
        "patient_id": patient_id, "family_name": name[0], "given_name": name[1],
        "sex": "F" if rng.random() < 0.7 else "M", "birth_date": birth, "onset_date": onset,
        "diagnosis_date": diagnosis, "disease_course": course,
    }  # fmt: skip
    start = max(diagnosis, dt.date(2021, 1, 1))
    visits = _visits(rng, patient_id, start)
    rows: dict[str, list[Row]] = {
        "patient": [person],
        "visit": visits,
        "relapse": [] if course == "PPMS" else _relapses(rng, patient_id, diagnosis, visits[0]["visit_date"]),
        "treatment": _treatments(rng, patient_id, diagnosis),
        "mri_session": _sessions(rng, patient_id, start),
        "consent": [
            {
                "patient_id": patient_id, "consent_date": _between(rng, start, start + dt.timedelta(days=200)),
                "is_registry_consented": True, "is_imaging_consented": True,
                "is_research_sharing_consented": bool(rng.random() < 0.9), "withdrawal_date": None,
            }
        ],
    }  # fmt: skip
    return Person(patient_id, rows)


def _visit_days(rng: np.random.Generator, start: dt.date) -> list[dt.date]:
    """Two to six days in order, less than half a year apart, the last one not long ago."""
    days = [EXTRACT - dt.timedelta(days=int(rng.integers(0, 150)))]
    for _ in range(int(rng.integers(1, 6))):
        days.insert(0, days[0] - dt.timedelta(days=int(rng.integers(100, 175))))
    return [day for day in days if day > start]


def _visits(rng: np.random.Generator, patient_id: str, start: dt.date) -> list[Row]:
    edss = float(rng.integers(2, 10)) / 2
    rows = []
    for day in _visit_days(rng, start):
        edss = min(8.0, max(1.0, edss + float(rng.choice((-0.5, 0.0, 0.0, 0.5, 1.0)))))
        walks = edss < 7 and rng.random() < 0.85
        rows.append(
            {
                "patient_id": patient_id, "visit_date": day,
                "visit_type": "clinic" if rng.random() < 0.9 else "remote", "edss": edss,
                "fs_pyramidal": int(rng.integers(0, 5)), "fs_cerebellar": int(rng.integers(0, 4)),
                "fs_visual": int(rng.integers(0, 4)) if rng.random() < 0.9 else None,
                "t25fw_s": round(3.5 + edss * float(rng.uniform(0.6, 1.8)), 1) if walks else None,
                "sdmt_score": int(rng.integers(24, 72)) if rng.random() < 0.8 else None,
            }
        )  # fmt: skip
    return rows


def _relapses(rng: np.random.Generator, patient_id: str, start: dt.date, first_visit: dt.date) -> list[Row]:
    """Relapses of a patient, none in the month before the first visit: its EDSS is a baseline."""
    return [
        {
            "patient_id": patient_id, "relapse_date": day, "relapse_duration_days": int(rng.integers(7, 70)),
            "relapse_severity": str(rng.choice(("mild", "moderate", "severe"))),
            "is_steroid_treated": bool(rng.random() < 0.6),
        }
        for day in _spaced(rng, start, EXTRACT, int(rng.integers(0, 4)), 150)
        if not 0 <= (first_visit - day).days <= 30
    ]  # fmt: skip


def _treatments(rng: np.random.Generator, patient_id: str, start: dt.date) -> list[Row]:
    rows = []
    day = start + dt.timedelta(days=int(rng.integers(10, 90)))
    years = dict(dmts().select("code", pl.col("first_approval_date").dt.year()).iter_rows())
    approved = [drug for drug in DRUGS if years[drug] < day.year]
    drugs = rng.choice(approved, size=min(len(approved), int(rng.integers(1, 4))), replace=False)
    for i, drug in enumerate(drugs):
        stop = day + dt.timedelta(days=int(rng.integers(200, 900)))
        goes_on = i == len(drugs) - 1 or stop > EXTRACT
        rows.append(
            {
                "patient_id": patient_id,
                "dmt": str(drug),
                "start_date": day,
                "stop_date": None if goes_on else stop,
                "stop_reason": None if goes_on else str(rng.choice(STOPS)),
            }
        )
        if goes_on:
            break
        day = stop + dt.timedelta(days=int(rng.integers(20, 120)))
        if day > EXTRACT:
            break
    return rows


def _sessions(rng: np.random.Generator, patient_id: str, start: dt.date) -> list[Row]:
    return [
        session_row(rng, patient_id, day)
        for day in _spaced(rng, start, SCANNED - dt.timedelta(days=30), int(rng.integers(1, 4)), 300)
    ]


def session_row(rng: np.random.Generator, patient_id: str, day: dt.date) -> Row:
    """A radiologist's row of one session."""
    contrast = bool(rng.random() < 0.5)
    return {
        "patient_id": patient_id, "mri_date": day, "mri_region": "brain" if rng.random() < 0.8 else "brain_spine",
        "is_contrast_given": contrast, "gd_lesion_count": int(rng.integers(0, 3)) if contrast else None,
        "t2_lesion_count": int(rng.integers(4, 60)),
    }  # fmt: skip
