"""Two thousand hostile files: none crashes, hangs or fills memory, each gets a fate and each refusal a reason."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path

import polars as pl
import pytest

from ingestion.deliveries import find_deliveries
from ingestion.receive import receive
from tests.faults.hostile import FORMULAS, hostile_file
from warehouse import lake
from warehouse.home import Home, Network, Site

LOGGER = logging.getLogger(__name__)
NETWORK = Network(quiet_seconds=30, sites=[Site(code="HAM")])
DELIVERY_SECONDS = 240
MEMORY_MEGABYTES = 3000
"""Of this process with what it had before, and of the largest one it starts."""


def _received(home: Home, name: str, seeds: range) -> float:
    """Receive one delivery of hostile files; the seconds it took."""
    folder = home.landing / "HAM" / name
    folder.mkdir(parents=True)
    made = home.root / "made"
    made.mkdir(exist_ok=True)
    for seed in seeds:
        file, data = hostile_file(seed, made)
        (folder / file).write_bytes(data)
    (folder / "_COMPLETE").touch()
    [delivery] = [d for d in find_deliveries(home, NETWORK, "HAM") if d.folder.name == name]
    start = time.monotonic()
    receive(home, NETWORK, delivery)
    return time.monotonic() - start


def _check(home: Home, files: int) -> None:
    """Every file has one fate, every refusal a reason, and nothing that was refused is in the lake."""
    fates = lake.read_table(home, "raw_lake__file")
    refused = fates.filter(pl.col("status") == "refused")
    rows = lake.read_table(home, "raw_registry__refusal")
    visits = lake.read_table(home, "raw_registry__visit")
    assert fates.filter(pl.col("display_name").str.starts_with("visits")).height >= files
    assert set(fates["status"]) == {"accepted", "refused"}
    for frame in (refused, rows):
        assert frame["reason_code"].null_count() == 0 == frame["reason"].null_count()
    stored = visits.write_csv()
    assert not [formula for formula in FORMULAS if formula in stored]
    assert "\0" not in stored and "\ufffd" not in stored


def test_a_sample_of_hostile_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    _received(home, "2026-01", range(24))
    _check(home, 24)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_thousand_hostile_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    slowest = max(_received(home, f"2026-{n}", range(n * 50, n * 50 + 50)) for n in range(40))
    _check(home, 2000)
    peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    LOGGER.info("slowest delivery of 50 files %.1f s; peak memory %d MB, of a child %d MB", slowest, *peaks)
    assert slowest < DELIVERY_SECONDS
    assert max(peaks) < MEMORY_MEGABYTES
