"""The publish_release job: a decision from the browser goes through the same door as the command line's."""

from pathlib import Path

import pytest

from orchestration.defs.release.publish import publish_release_job
from orchestration.defs.resources import Workplace
from warehouse import lake, manifest, releases
from warehouse.errors import ReleaseError
from warehouse.home import Home

VERSION = "2026-11-24.1"


def make_release(home: Home, *, is_passed: bool = True) -> None:
    """A folder as `finish_build` leaves it, with one file."""
    home.network_file.write_text("name: Test\n", encoding="utf-8")
    folder = home.releases / VERSION
    lake.write_bytes(folder / "open.duckdb", b"content")
    gate = {"is_passed": is_passed, "problems": [] if is_passed else ["a cell is too small"]}
    files = {"open.duckdb": {"sha256": lake.sha256_file(folder / "open.duckdb")}}
    lake.write_json(folder / manifest.NAME, {"version": VERSION, "files": files, "gate": gate})


def run(home: Home) -> None:
    decision = {"version": VERSION, "reason": "checked with the sites", "by": "Ann"}
    publish_release_job.execute_in_process(
        run_config={"ops": {"publish": {"config": decision}}}, resources={"workplace": Workplace(root=str(home.root))}
    )


def test_a_decision_publishes_and_is_recorded(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_release(home)
    run(home)
    assert releases.current_version(home) == VERSION
    entry = releases.decisions(home)[-1]
    assert (entry["action"], entry["user"], entry["reason"]) == ("publish", "Ann", "checked with the sites")


def test_what_the_gate_did_not_pass_fails_the_run_and_is_not_published(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_release(home, is_passed=False)
    with pytest.raises(ReleaseError, match="a cell is too small"):
        run(home)
    assert releases.current_version(home) is None
