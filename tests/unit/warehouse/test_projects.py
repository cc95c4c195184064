"""Projects: who is taken, for how long, and keys that are a project's own."""

from __future__ import annotations

import stat
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml

from warehouse import lake, projects
from warehouse.errors import HomeError
from warehouse.home import Home, Network, Site
from warehouse.policy import in_force, load_policy
from warehouse.projects import Project
from warehouse.tables import schema_of

TODAY = date(2026, 11, 24)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    for folder in made.folders():
        folder.mkdir(parents=True, exist_ok=True)
    made.network_file.write_text(yaml.safe_dump({"sites": [{"code": "AA"}]}))
    return made


def project(name: str = "fatigue", until: date = TODAY, scope: tuple[str, ...] = ("share_research",)) -> Project:
    return Project(name, scope, until)


def test_a_project_is_kept_for_its_owner_only(home: Home) -> None:
    projects.add_project(home, project(), TODAY)
    assert projects.list_projects(home) == [project()]
    assert stat.S_IMODE(projects.projects_file(home).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (project(name="../x"), "small letters"),
        (project(name="Fatigue"), "small letters"),
        (project(scope=()), "share_research"),
        (project(scope=("everything",)), "share_research"),
        (project(until=date(2026, 11, 23)), "has passed"),
    ],
)
def test_what_is_no_project_is_refused(home: Home, wrong: Project, message: str) -> None:
    with pytest.raises(HomeError, match=message):
        projects.add_project(home, wrong, TODAY)
    assert projects.list_projects(home) == []


def test_a_name_is_taken_for_ever(home: Home) -> None:
    projects.add_project(home, project(), TODAY)
    projects.close_project(home, "fatigue")
    with pytest.raises(HomeError, match="already"):
        projects.add_project(home, project(), TODAY)
    with pytest.raises(HomeError, match="no project"):
        projects.close_project(home, "other")


def test_expired_and_closed_projects_are_not_built(home: Home) -> None:
    projects.add_project(home, project(), TODAY)
    policy = load_policy()
    assert projects.active_projects(home, policy, TODAY)
    assert not projects.active_projects(home, policy, date(2026, 11, 25))
    outputs_only = in_force(policy, Network(policy={"preset": "opensafely"}))
    assert not projects.active_projects(home, outputs_only, TODAY)
    projects.close_project(home, "fatigue")
    assert not projects.active_projects(home, policy, TODAY)


def test_a_damaged_list_is_a_sentence(home: Home) -> None:
    projects.projects_file(home).parent.mkdir()
    projects.projects_file(home).write_text('[{"name": "x"}]')
    with pytest.raises(HomeError, match="restore it from a backup"):
        projects.list_projects(home)


def keys(home: Home, *names: str) -> pl.DataFrame:
    target = home.root / "keys.parquet"
    projects.write_keys(home, target, Network(sites=[Site(code="AA")]), [project(name) for name in names])
    return pl.read_parquet(target)


def test_keys_differ_per_project_stay_and_tell_nothing(home: Home) -> None:
    table = "raw_registry__patient"
    rows = pl.DataFrame({"subject_key": [f"sbj_{i:016x}" for i in range(50)]})
    frame = pl.concat([pl.DataFrame(schema=schema_of(table)), rows], how="diagonal")
    lake.write_part(home, table, frame, "AA", "dlv_1")
    first = keys(home, "one", "two")
    one, two = (first.filter(pl.col("project") == name).sort("key") for name in ("one", "two"))
    assert one["key"].to_list() == two["key"].to_list() == ["AA", *rows["subject_key"]]
    assert not set(one["project_key"]) & set(two["project_key"])
    assert not set(first["project_key"]) & set(first["key"])
    subjects = one.filter(pl.col("key") != "AA")
    assert subjects["shift_days"].is_between(1, 365).all()
    assert subjects["shift_days"].to_list() != two.filter(pl.col("key") != "AA")["shift_days"].to_list()
    assert keys(home, "one", "two").sort("project", "key").equals(first.sort("project", "key"))
    assert keys(home).is_empty()
