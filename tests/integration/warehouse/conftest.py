"""One real release of a small network, built once for all tests here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the network's rows, which are no test

from network import NOW, Lake, make_lake, run_dbt

from warehouse import dbt, releases


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A published release of two sites with subjects of every state of consent."""
    made = make_lake(tmp_path_factory.mktemp("home"))
    dbt.prepare(made.home)
    build = releases.start_build(made.home, now=NOW)
    run_dbt(build)
    releases.finish_build(made.home, build)
    releases.publish(made.home, build.version)
    return made
