"""Kill -9 at several points; the next start recovers by itself and the release is that of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.faults.homes import SECRET
from warehouse import releases
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

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


def _wait_for(child: subprocess.Popen[str], home: Home, pattern: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(home.root.glob(pattern)):
            return
        if child.poll() is not None:
            assert child.stderr is not None
            pytest.fail(f"the run ended before {pattern}: {child.stderr.read()[-2000:]}")
        time.sleep(0.01)
    pytest.fail(f"{pattern} never appeared")


@pytest.mark.parametrize(("point", "who"), CASES)
def test_next_start_recovers_unaided(
    point: str, who: str, delivered: Home, undisturbed: Home, start: Callable[..., subprocess.Popen[str]]
) -> None:
    first = start(delivered)
    _wait_for(first, delivered, POINTS[point])
    if who == "parent":
        os.kill(first.pid, signal.SIGKILL)
    else:
        os.killpg(first.pid, signal.SIGKILL)
    second = start(delivered)
    out, err = second.communicate(timeout=400)
    assert second.returncode == 0, out + err[-3000:]
    recovered = float(out.splitlines()[0].split()[1])
    assert recovered <= RECOVERY_SECONDS
    first.wait()
    assert list(delivered.releases.glob(".*")) == []
    assert tables_of(delivered) == tables_of(undisturbed)


def tables_of(home: Home) -> dict[str, list[str]]:
    """Every table of the steward's file, rows sorted, keys told by their lookup, clock times and version left out.

    Row and finding keys that hash other keys are compared through the columns they were made of.
    """
    os.environ["RANVIER_PSEUDONYM_KEY"] = SECRET
    lookups = {key: f"{kind} {lookup}" for kind, lookup, _, key in Pseudonyms(home).lookup_table()}
    path = releases.release_folder(home) / "steward.duckdb"
    found: dict[str, list[str]] = {}
    with duckdb.connect(str(path), read_only=True) as db:
        names = [row[0] for row in db.execute("select table_name from information_schema.tables").fetchall()]
        for name in names:
            cursor = db.execute(f'select * from "{name}"')
            columns = [column[0] for column in cursor.description]
            kept = [i for i, column in enumerate(columns) if not _is_of_this_run(column)]
            rows = cursor.fetchall()
            found[name] = sorted(repr([_told(row[i], lookups) for i in kept]) for row in rows)
    return found


def _is_of_this_run(column: str) -> bool:
    return column in ("release_version", "finding_key") or column.endswith("_datetime")


def _told(value: Any, lookups: dict[str, str]) -> Any:
    return lookups.get(value, value) if isinstance(value, str) else value


def test_tables_of_sees_a_difference(undisturbed: Home, tmp_path: Path) -> None:
    found = tables_of(undisturbed)
    assert found["fct_visit"] and found["dim_subject"]
    assert any("subject " in row for row in found["fct_visit"])
