"""Making the simulated network: deliveries in `landing/`, sites in `network.yaml`, and `truth.json`.

Here: the order of the work, and that it can be stopped and started again. Not here: what is made (the modules beside).
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ingestion.simulator.anatomy import load_anatomy
from ingestion.simulator.dicom import Session, Subject, write_series
from ingestion.simulator.faults import RULES, disturbance
from ingestion.simulator.network import Centre, centres
from ingestion.simulator.people import Person
from ingestion.simulator.registry import write_tables
from ingestion.simulator.scanner import scan, subject_shape
from ingestion.simulator.truth import (
    Plan,
    PlannedScan,
    plan_registry,
    plan_scans,
    registry_truth,
    scanned_count,
    session_day,
)
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.lake import write_bytes, write_json
from warehouse.work import Mapper, Progress, serial, silent

COMPLETE_MARKER = "_COMPLETE"


@dataclass(frozen=True)
class SeriesTask:
    """Everything one process needs to make one series."""

    cache: Path
    folder: Path
    centre: Centre
    planned: PlannedScan
    subject: Subject
    acquired: dt.datetime
    study: str
    seed: int


def make_series(task: SeriesTask) -> int:
    """Scan one head and write its files; how many. The same task writes the same bytes."""
    planned, scanner = task.planned, task.centre.scanner
    protocol = scanner.protocols[planned.contrast]
    rng = np.random.default_rng([task.seed, 3, planned.number])
    wanted = disturbance(planned.kind, planned.severity, planned.contrast, rng)
    shape = subject_shape([task.seed, 4, planned.site, planned.person])
    seed = [task.seed, 5, planned.number]
    made = scan(load_anatomy(task.cache), scanner, protocol, planned.contrast, shape, wanted, seed)
    count = len(made.pixels)
    lost: frozenset[int] = frozenset()
    if wanted.lost_slices:
        first = int(rng.integers(count // 4, count // 2))
        lost = frozenset(range(first, first + wanted.lost_slices))
    session = Session(task.acquired, 2 + planned.number % 2, task.centre.site.code, task.study, task.seed)
    pattern = task.centre.image_file
    return write_series(
        task.folder, pattern, made, scanner, protocol, planned.contrast, task.subject, session, wanted, lost
    )


def simulate(
    home: Home,
    *,
    sites: int = 4,
    subjects: int = 30,
    scans: int = 12,
    seed: int = 1,
    mapper: Mapper = serial,
    progress: Progress = silent,
) -> Path:
    """Send the deliveries of a simulated network into a home.

    Parameters
    ----------
    home
        An initialised home; the sites are added to its `network.yaml`, whatever else that holds is kept.
    sites, subjects, scans
        Number of sites, of patients per site, and of image series per site.
    seed
        The same seed gives the same files.
    mapper
        Who makes the series; serial without one. A series takes about two seconds and 0.8 GB.

    Returns
    -------
    Path of `truth.json`, which lists what is planted. It is written first: calling again after an interruption makes
    what is missing.

    Raises
    ------
    RanvierError
        The numbers are out of range, the home holds another simulation, or a series could not be made.
    """
    asked = {"seed": seed, "sites": sites, "subjects": subjects, "scans": scans}
    _check(asked)
    home.network()
    found = centres(sites)
    planned = plan_scans(found, scans, seed)
    plan = plan_registry(found, subjects, scans, seed)
    target = home.root / "truth.json"
    drafts = {final: final.with_name(f".{final.name}.part") for final in _finals(home, found)}
    try:
        _write_registry(found, plan, drafts)
        truth = _truth(asked, found, planned, plan, scans)
        _keep_or_refuse(home, target, truth, drafts)
        write_json(target, truth)
        add_sites(home, found)
        _write_images(home, found, planned, plan, scans, seed, drafts, mapper, progress)
        for final, draft in drafts.items():
            if not final.exists():
                (draft / COMPLETE_MARKER).touch()
                draft.rename(final)
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _check(asked: dict[str, int]) -> None:
    for name, value in asked.items():
        low = 0 if name in ("seed", "scans") else 1
        if not low <= value <= 10_000:
            raise RanvierError(f"{name} must be between {low} and 10,000; {value} is not")
    if scanned_count(asked["scans"]) > asked["subjects"]:
        raise RanvierError(
            f"{asked['scans']} series need {scanned_count(asked['scans'])} patients; raise subjects or lower scans"
        )


def add_sites(home: Home, found: list[Centre]) -> None:
    """Add the sites to network.yaml. A site that stands there already is left as it is."""
    raw: dict[str, Any] = yaml.safe_load(home.network_file.read_text(encoding="utf-8")) or {}
    listed = list(raw.get("sites") or [])
    known = {site.get("code") for site in listed}
    new = [c.site.model_dump() for c in found if c.site.code not in known]
    if new:
        raw["sites"] = listed + new
        write_bytes(home.network_file, yaml.safe_dump(raw, allow_unicode=True, sort_keys=False).encode())


def _deliveries(centre: Centre) -> list[str]:
    return [centre.delivery, *([centre.second_delivery] if centre.second_delivery else [])]


def _finals(home: Home, found: list[Centre]) -> list[Path]:
    return [home.landing / centre.site.code / name for centre in found for name in _deliveries(centre)]


def _write_registry(found: list[Centre], plan: Plan, drafts: dict[Path, Path]) -> None:
    """Write the tables of every delivery into its hidden folder, which says where each planted fault stands."""
    for index, centre in enumerate(found):
        code = centre.site.code
        for name, people in zip(_deliveries(centre), (plan.people[index], plan.later[index]), strict=False):
            draft = next(d for f, d in drafts.items() if (f.parent.name, f.name) == (code, name))
            shutil.rmtree(draft, ignore_errors=True)
            write_tables(draft, name, centre, people, [fault for fault in plan.faults if fault.site == code])


def _keep_or_refuse(home: Home, target: Path, truth: dict[str, Any], drafts: dict[Path, Path]) -> None:
    if target.exists():
        if json.loads(target.read_text(encoding="utf-8")) != truth:
            raise RanvierError(f"{home.root} holds another simulation; simulate into a new home")
    elif any(final.exists() for final in drafts):
        raise RanvierError(f"{home.landing} holds deliveries of these sites already; simulate into a new home")


def _place(found: list[Centre], planned: PlannedScan, plan: Plan, scans: int) -> tuple[str, str, bool]:
    """(delivery, folder in it, whether it comes with the second delivery) of a series."""
    centre = found[planned.site]
    is_later = bool(centre.second_delivery) and 1 < scanned_count(scans) == planned.person + 1
    patient = plan.people[planned.site][planned.person].patient_id.replace("/", "-")
    study = f"{session_day(planned.site, planned.person, is_later):%Y%m%d}_{planned.session + 1}"
    series = f"{2 + planned.number % 2:03d}"
    folder = centre.image_folder.format(patient=patient, study=study, series=series)
    delivery = centre.second_delivery if is_later and centre.second_delivery else centre.delivery
    return delivery, folder, is_later


def _truth(
    asked: dict[str, int], found: list[Centre], planned: list[PlannedScan], plan: Plan, scans: int
) -> dict[str, Any]:
    series = []
    for one in planned:
        delivery, folder, _ = _place(found, one, plan, scans)
        series.append(
            {
                "site": found[one.site].site.code, "delivery": delivery, "folder": folder, "contrast": one.contrast,
                "kind": one.kind, "severity": one.severity, "expected_rules": list(RULES.get(one.kind, ())),
            }
        )  # fmt: skip
    return {**asked, "scans_per_site": asked["scans"], "scans": series, "registry_faults": registry_truth(plan.faults)}


def _write_images(
    home: Home,
    found: list[Centre],
    planned: list[PlannedScan],
    plan: Plan,
    scans: int,
    seed: int,
    drafts: dict[Path, Path],
    mapper: Mapper,
    progress: Progress,
) -> None:
    tasks = []
    for one in planned:
        centre, person = found[one.site], plan.people[one.site][one.person]
        delivery, folder, is_later = _place(found, one, plan, scans)
        final = home.landing / centre.site.code / delivery
        if not final.exists():
            day = session_day(one.site, one.person, is_later)
            acquired = dt.datetime.combine(day, dt.time(9 + one.person % 8, 10 + 20 * (one.number % 2)))
            study = f"{person.patient_id} {day}"
            tasks.append(
                SeriesTask(
                    home.cache, drafts[final] / folder, centre, one, _subject(person), acquired, study, seed,
                )
            )  # fmt: skip
    # A head that moves is scanned once per pose and takes several times as long: begin with those.
    tasks.sort(key=lambda task: task.planned.kind != "motion")
    if tasks:
        load_anatomy(home.cache)  # once, before several processes would each build it
    progress("simulating series", 0, len(tasks))
    for done, (_, result) in enumerate(mapper(make_series, tasks), start=1):
        if isinstance(result, Exception):
            raise RanvierError("A series of the simulated network could not be made; run the command again") from result
        progress("simulating series", done, len(tasks))


def _subject(person: Person) -> Subject:
    row = person.patient
    return Subject(person.patient_id, row["family_name"], row["given_name"], row["sex"], row["birth_date"])
