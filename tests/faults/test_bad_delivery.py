"""One site's unreadable delivery holds up nobody, and a run with nothing new computes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.homes import deliver
from warehouse import lake, releases
from warehouse.home import Home


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "_COMPLETE").touch()


def _cut_archive(folder: Path) -> None:
    import zipfile

    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "scans.zip", "w") as archive:
        archive.writestr("one.dcm", os.urandom(5000))
    whole = (folder / "scans.zip").read_bytes()
    (folder / "scans.zip").write_bytes(whole[:2500])
    (folder / "_COMPLETE").touch()


@pytest.mark.parametrize("make", [_empty, pytest.param(_cut_archive, marks=pytest.mark.slow)])
def test_other_sites_are_released(
    make: Callable[[Path], None],
    tmp_path: Path,
    new_home: Callable[[Path], Home],
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    home = new_home(tmp_path / "home")
    deliver(home, "AAA1")
    make(home.landing / "BBB1" / "first")
    out, err = start(home).communicate(timeout=500)
    assert releases.current_version(home) is not None, out + err[-3000:]
    manifest = json.loads((releases.release_folder(home) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sites"]["BBB1"]["is_newest_delivery_failed"]
    assert manifest["sites"]["BBB1"]["failure_reason_code"]
    assert manifest["sites"]["AAA1"]["deliveries"] and not manifest["sites"]["AAA1"]["is_newest_delivery_failed"]
    findings = lake.read_table(home, "raw_qa__finding", "BBB1")
    assert "DELIVERY_UNREADABLE" in findings["rule_id"].to_list()


def test_second_run_receives_and_measures_nothing(
    undisturbed: Home, start: Callable[..., subprocess.Popen[str]]
) -> None:
    immutable = ["raw_lake__delivery", "raw_lake__file", "raw_registry__visit"]

    def parts() -> dict[str, int]:
        found = [p for table in immutable for p in (undisturbed.lake / table).rglob("dlv_*.parquet")]
        found += (undisturbed.lake / "measures").rglob("*.json") if (undisturbed.lake / "measures").exists() else []
        return {str(p): p.stat().st_mtime_ns for p in found}

    before, rows = parts(), lake.read_table(undisturbed, "raw_lake__accepted")
    child = start(undisturbed, "--site", "AAA1", "--site", "BBB1")
    out, err = child.communicate(timeout=500)
    assert child.returncode == 0, out + err[-3000:]
    assert before and parts() == before
    assert lake.read_table(undisturbed, "raw_lake__accepted").equals(rows)
