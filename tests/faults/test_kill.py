"""Kill -9 at several points; the next start recovers by itself and the release is that of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest

from orchestration import recovery, steps
from tests.faults.compare import KEY, tables_of
from warehouse.home import Home

RECOVERY_SECONDS = 30.0
POINTS = {
    "before the first step": "dagster/lock",
    "delivery received": "lake/raw_lake__delivery/site=AAA1/dlv_*.parquet",
    "rules judged": "lake/raw_qa__rule_result/site=AAA1/current.parquet",
    "accepted": "lake/raw_lake__accepted/site=AAA1/current.parquet",
    "second site begun": "lake/raw_lake__delivery/site=BBB1/dlv_*.parquet",
    "build opened": "releases/.build-*/lock",
    "inside dbt": "releases/.build-*/steward.duckdb",
    "release named": "releases/2*/manifest.json",
    "published": "releases/current",
    "first report": "reports/AAA1/*/index.html",
}
"""What lies in the home when the blow falls."""
QUICK = {("inside dbt", "parent"), ("accepted", "group")}
CASES = [
    pytest.param(point, who, id=f"{who}, {point}", marks=[] if (point, who) in QUICK else [pytest.mark.slow])
    for point in POINTS
    for who in ("parent", "group")
]
FILES = ("steward.duckdb", "registered.duckdb", "open.duckdb", "site/AAA1.duckdb", "site/BBB1.duckdb")


def wait_for(child: subprocess.Popen[str], home: Home, pattern: str, count: int = 1) -> None:
    """Return at the moment that `count` files match; fail when the run is over before."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if sum(1 for _ in home.root.glob(pattern)) >= count:
            return
        if child.poll() is not None:
            assert child.stderr is not None
            pytest.fail(f"the run ended before {pattern}: {child.stderr.read()[-2000:]}")
        time.sleep(0.01)
    pytest.fail(f"{pattern} never appeared")


def kill_and_start_again(
    first: subprocess.Popen[str], who: str, home: Home, start: Callable[..., subprocess.Popen[str]]
) -> float:
    """Kill a run, its parent alone or with all its children, and start the next one at once.

    Returns
    -------
    Seconds from the next start's beginning, imports and all, until its first Dagster run; or until its end where it
    finds all work done.
    """
    children = psutil.Process(first.pid).children(recursive=True)
    if who == "parent":
        os.kill(first.pid, signal.SIGKILL)
    else:
        os.killpg(first.pid, signal.SIGKILL)
    before = _runs(home)
    begun = time.monotonic()
    second = start(home)
    while second.poll() is None and _runs(home) == before:
        time.sleep(0.02)
    seconds = time.monotonic() - begun
    # What the first start left running could write over what the second one makes.
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    out, err = second.communicate(timeout=500)
    assert second.returncode == 0, out + err[-3000:]
    first.communicate()
    assert recovery.orphans(home) == []
    assert [path.name for path in home.releases.glob(".*")] in ([], [".lock"])
    assert [path for path in home.lake.rglob("*.tmp") if path.name.startswith(".")] == []
    return seconds


def _runs(home: Home) -> set[str]:
    return {path.name for path in (home.dagster / "history" / "runs").glob("*-*.db")}


@pytest.mark.parametrize(("point", "who"), CASES)
def test_next_start_recovers_unaided(
    point: str,
    who: str,
    delivered: Home,
    undisturbed: Home,
    start: Callable[..., subprocess.Popen[str]],
    record_property: Callable[[str, object], None],
) -> None:
    first = start(delivered)
    wait_for(first, delivered, POINTS[point])
    seconds = kill_and_start_again(first, who, delivered, start)
    record_property("recovery_seconds", round(seconds, 1))
    assert seconds <= RECOVERY_SECONDS
    assert tables_of(delivered, *FILES) == tables_of(undisturbed, *FILES)
    assert steps.sites_without_report(delivered) == []


def test_the_comparison_sees_rows_and_translates_every_key(undisturbed: Home) -> None:
    found = tables_of(undisturbed, *FILES)
    assert found["steward.duckdb fct_visit"] and found["steward.duckdb dim_subject"]
    assert any("subject " in row for row in found["steward.duckdb fct_visit"])
    assert not any(KEY.search(row) for rows in found.values() for row in rows)
