"""Approved projects: who has a file of the controlled tier, for which scope, until when.

Here: the list of projects, and their own keys and date offsets. Not here: what a project's file holds
(`warehouse/policy/controlled.yaml`), writing it (`dbt_project/`), the people of a project (`warehouse.users`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from warehouse import lake
from warehouse.errors import HomeError
from warehouse.home import PROJECT_NAME, Home, Network
from warehouse.policy import Policy, in_force, load_policy
from warehouse.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class Project:
    """An approved project.

    `scope` holds names of `consent_scopes` in `warehouse/policy/controlled.yaml`; `until` is the last day on which the
    project is built and answered.
    """

    name: str
    scope: tuple[str, ...]
    until: date
    title: str = ""
    is_closed: bool = False

    def is_active(self, today: date) -> bool:
        """Whether the project is built and answered on this day."""
        return not self.is_closed and today <= self.until


def projects_file(home: Home) -> Path:
    """Where the list lies; only its owner may read it."""
    return home.root / "access" / "projects.json"


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    folder = projects_file(home).parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    handle = os.open(folder / ".projects.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def list_projects(home: Home) -> list[Project]:
    """All projects, by name, closed and expired ones too.

    Raises
    ------
    HomeError
        The list is damaged.
    """
    path = projects_file(home)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [
            Project(
                name=row["name"],
                scope=tuple(row["scope"]),
                until=date.fromisoformat(row["until"]),
                title=row["title"],
                is_closed=row["is_closed"],
            )
            for row in rows
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(f"{path} does not hold a list of projects; restore it from a backup") from error
    return sorted(found, key=lambda project: project.name)


def active_projects(home: Home, policy: Policy, today: date) -> list[Project]:
    """Projects that a release built on this day has a file for."""
    if not policy.rules["controlled"].row_level:
        return []
    return [project for project in list_projects(home) if project.is_active(today)]


def is_answered(home: Home, name: str) -> bool:
    """Whether a project's file may be asked today: an earlier release still has the file of one that is over."""
    today = datetime.now(UTC).date()
    return any(project.name == name and project.is_active(today) for project in list_projects(home))


def _save(home: Home, projects: list[Project]) -> None:
    path = projects_file(home)
    lake.write_json(path, [asdict(p) | {"until": p.until.isoformat()} for p in projects])
    path.chmod(0o600)


def add_project(home: Home, project: Project, today: date | None = None) -> None:
    """Add a project; the next release has its file.

    Raises
    ------
    HomeError
        The name is taken or no name, a scope is unknown, or the last day has passed.
    """
    home.network()
    scopes = load_policy().consent_scopes
    if not PROJECT_NAME.fullmatch(project.name):
        raise HomeError("A project's name is 2 to 32 small letters, digits and '_', and begins with a letter")
    if not project.scope or set(project.scope) - set(scopes):
        raise HomeError(f"A project needs scopes, each one of: {', '.join(scopes)}")
    if project.until < (today or datetime.now(UTC).date()):
        raise HomeError(f"The project's last day, {project.until}, has passed; give a later --until")
    with _locked(home):
        projects = list_projects(home)
        if any(known.name == project.name for known in projects):
            raise HomeError(f"There is a project {project.name} already; choose another name")
        _save(home, [*projects, project])


def close_project(home: Home, name: str) -> None:
    """Close a project before its last day. Its name is never used again, so that its keys stay its own.

    Raises
    ------
    HomeError
        There is no such project.
    """
    with _locked(home):
        projects = list_projects(home)
        if not any(project.name == name for project in projects):
            raise HomeError(f"There is no project {name[:40]!r}; see: ranvier project list")
        _save(home, [replace(p, is_closed=True) if p.name == name else p for p in projects])


def settings_for_dbt(policy: Policy, projects: Sequence[Project]) -> list[dict[str, Any]]:
    """Name, scopes and consent variables of each project, as JSON can hold them."""
    return [
        {
            "name": project.name,
            "scopes": list(project.scope),
            "conditions": sorted({v for scope in project.scope for v in policy.consent_scopes[scope]}),
        }
        for project in projects
    ]


def write_keys(home: Home, target: Path, network: Network, projects: Sequence[Project]) -> None:
    """Each project's key of every subject, session, series and site, and each subject's date offset in it, as Parquet.

    New keys are made for what is new in the lake. The file is for the build alone, and is removed with its folder.
    """
    shift = in_force(load_policy(), network).rules["controlled"].date_shift_days
    wanted: dict[str, set[str]] = {"subject": set(), "session": set(), "series": set()}
    for table in lake.tables_with("subject_key") if projects else []:
        for kind in wanted:
            wanted[kind] |= lake.distinct(home, table, f"{kind}_key")
    wanted["site"] = {site.code for site in network.sites} if projects else set()
    pseudonyms = Pseudonyms(home)
    frames = [
        pl.DataFrame(
            pseudonyms.project_keys(project.name, wanted, shift),
            schema=KEY_SCHEMA,
            orient="row",
        )
        for project in projects
    ]
    lake.write_parquet(target, pl.concat(frames) if frames else pl.DataFrame(schema=KEY_SCHEMA))


KEY_SCHEMA = {"project": pl.String, "key": pl.String, "project_key": pl.String, "shift_days": pl.Int32}
