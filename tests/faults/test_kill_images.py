"""Kill -9 among the images: what was converted and measured is kept, and the rest comes out as if undisturbed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.compare import tables_of
from tests.faults.homes import deliver
from tests.faults.scans import add_scans
from tests.faults.test_kill import RECOVERY_SECONDS, kill_and_start_again, wait_for
from warehouse.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SCANS: list[tuple[str, str, str, float | None]] = [
    ("P1", "T1w", "sound", None),
    ("P1", "FLAIR", "low_snr", 1.0),
    ("P2", "T1w", "cut_off", 1.0),
]
POINTS = {
    "a series being converted": ("lake/cache/.deidentified/AAA1/*/nifti", 1),
    "one of three measured": ("lake/measures/*/*.json", 1),
}
FILES = ("steward.duckdb", "open.duckdb", "site/AAA1.duckdb")


@pytest.fixture(scope="module")
def with_images(
    tmp_path_factory: pytest.TempPathFactory,
    new_home: Callable[[Path], Home],
    start: Callable[..., subprocess.Popen[str]],
) -> Home:
    """A home with three series that one start took from delivery to release."""
    home = new_home(tmp_path_factory.mktemp("images") / "home")
    deliver(home, "AAA1")
    add_scans(home.landing / "AAA1" / "first", home.cache, SCANS, is_small=True)
    child = start(home)
    out, err = child.communicate(timeout=900)
    assert child.returncode == 0, out + err[-3000:]
    return home


@pytest.mark.parametrize("who", ["parent", "group"])
@pytest.mark.parametrize("point", list(POINTS))
def test_next_start_repeats_no_finished_image(
    point: str,
    who: str,
    tmp_path: Path,
    with_images: Home,
    new_home: Callable[[Path], Home],
    start: Callable[..., subprocess.Popen[str]],
    record_property: Callable[[str, object], None],
) -> None:
    home = new_home(tmp_path / "home")
    shutil.rmtree(home.landing)
    shutil.copytree(with_images.landing, home.landing)
    shutil.copytree(with_images.cache / "dbt", home.cache / "dbt")
    first = start(home)
    wait_for(first, home, *POINTS[point])
    done = _written(home)
    seconds = kill_and_start_again(first, who, home, start)
    record_property("recovery_seconds", round(seconds, 1))
    assert seconds <= RECOVERY_SECONDS
    after = _written(home)
    assert {path: after.get(path) for path in done} == done
    found = tables_of(home, *FILES)
    assert found == tables_of(with_images, *FILES)
    assert len(found["steward.duckdb fct_verdict"]) == len(SCANS)
    assert _measures(home) == _measures(with_images)
    assert not any((home.cache / ".deidentified").rglob("*"))
    # Dask keeps two empty lock files; a worker's folder holds what it spilled.
    assert [path for path in (home.cache / "dask").rglob("*") if path.suffix != ".lock" and not _is_root(path)] == []


def _written(home: Home) -> dict[Path, tuple[int, int]]:
    """Everything that is kept by content: which file, and when it was written."""
    found = [*(home.lake / "measures").rglob("[!.]*.json"), *(home.cache / "converted").glob("[!.]*.json")]
    found += [path for path in (home.lake / "objects").rglob("[!.]*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def _is_root(path: Path) -> bool:
    return path.name == "dask-scratch-space"


def _measures(home: Home) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home.lake / "measures").rglob("*.json")}
