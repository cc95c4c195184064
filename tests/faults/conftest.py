"""Homes with real registry deliveries, and whole starts of Ranvier as processes that can be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults.homes import ROOT, SECRET, deliver
from warehouse.home import Home
from warehouse.lake import ensure_schema_parts
from warehouse.pseudonyms import KEY_VARIABLE


@pytest.fixture(scope="session")
def new_home() -> Callable[[Path], Home]:
    """Makes a home of the sites AAA1 and BBB1 with nothing in it."""

    def make(root: Path) -> Home:
        home = Home(root)
        for folder in home.folders():
            folder.mkdir(parents=True)
        sites = [{"code": code} for code in ("AAA1", "BBB1")]
        home.network_file.write_text(yaml.safe_dump({"sites": sites, "quiet_seconds": 3600}), encoding="utf-8")
        ensure_schema_parts(home)
        return home

    return make


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Starts `ranvier run` on a home in a session of its own."""

    def begin(home: Home, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), KEY_VARIABLE: SECRET}
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("ranvier")), "run", "--home", str(home.root), *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    return begin


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    new_home: Callable[[Path], Home],
    start: Callable[..., subprocess.Popen[str]],
) -> Home:
    """A home that one start took from deliveries to a release."""
    home = new_home(tmp_path_factory.mktemp("undisturbed") / "home")
    for site in ("AAA1", "BBB1"):
        deliver(home, site)
    child = start(home)
    out, err = child.communicate(timeout=500)
    assert child.returncode == 0, out + err[-3000:]
    return home


@pytest.fixture
def delivered(tmp_path: Path, undisturbed: Home, new_home: Callable[[Path], Home]) -> Home:
    """A home with the same deliveries as `undisturbed`, that no run has seen; dbt's parse is taken over."""
    home = new_home(tmp_path / "home")
    shutil.rmtree(home.landing)
    shutil.copytree(undisturbed.landing, home.landing)
    shutil.copytree(undisturbed.cache / "dbt", home.cache / "dbt")
    return home
