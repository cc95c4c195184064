"""Deliveries of registry tables are found when complete and received once, whole, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ingestion.deliveries import Delivery, find_deliveries, loose_files, superseded
from ingestion.quarantine import list_quarantine
from ingestion.receive import receive
from warehouse import lake
from warehouse.errors import DeliveryError
from warehouse.home import Home, Network, Site
from warehouse.pseudonyms import Pseudonyms

ROOT = Path(__file__).parents[3]
PATIENTS = "patient_id,sex,birth_date,disease_course\nP1,F,1980,RRMS\nP2,X,1980,RRMS\n"
VISITS = "patient_id,visit_date,edss\nP1,2020-01-01,2.5\nP1,2021-01-01,two\n"
NETWORK = Network(quiet_seconds=0.3, sites=[Site(code="HAM")])
TABLES = [
    "raw_lake__delivery",
    "raw_lake__file",
    "raw_registry__patient",
    "raw_registry__visit",
    "raw_registry__refusal",
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "landing" / "HAM").mkdir(parents=True)
    return Home(tmp_path)


def deliver(home: Home, name: str, files: dict[str, str], complete: bool = True) -> Path:
    folder = home.landing / "HAM" / name
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    if complete:
        (folder / "_COMPLETE").touch()
    return folder


def take(home: Home) -> list[Delivery]:
    for delivery in find_deliveries(home, NETWORK, "HAM"):
        if delivery.is_complete and not delivery.is_received:
            receive(home, NETWORK, delivery)
    return find_deliveries(home, NETWORK, "HAM")


def contents(home: Home) -> dict[str, list[tuple[object, ...]]]:
    """Every table as rows, with random keys replaced by what they stand for and without the time of receipt."""
    names = {key: lookup for _, lookup, _, key in Pseudonyms(home).lookup_table()}

    def plain(value: object) -> object:
        if isinstance(value, str):
            for key, name in names.items():
                value = value.replace(key, name)
        return value

    found = {}
    for table in TABLES:
        frame = lake.read_table(home, table).drop("received_datetime", strict=False)
        found[table] = sorted((tuple(plain(cell) for cell in row) for row in frame.iter_rows()), key=repr)
    return found


def test_received_once_with_every_file_accounted_for(home: Home) -> None:
    deliver(home, "2026-01", {"patients.csv": PATIENTS, "visits.csv": VISITS, "Thumbs.db": "x", "notes.txt": "hello"})
    (home.landing / "HAM" / "stray.csv").write_text("x", encoding="utf-8")
    assert all(delivery.is_received for delivery in take(home))
    files = lake.read_table(home, "raw_lake__file")
    assert files.select("display_name", "kind", "status", "reason_code").rows() == [
        ("*.*", "other", "refused", "system_file"),
        ("_COMPLETE", "marker", "accepted", None),
        ("notes.txt", "other", "refused", "not_usable"),
        ("patients.csv", "registry", "accepted", None),
        ("visits.csv", "registry", "accepted", None),
    ]
    assert lake.read_table(home, "raw_registry__patient").height == 1
    quarantine = list_quarantine(home, "HAM")
    assert quarantine.filter(pl.col("what") == "row")["where_found"].to_list() == [
        "patient table, row 3, sex",
        "visit table, row 3, edss",
    ]
    assert loose_files(home, "HAM") == 1
    before = contents(home)
    take(home)
    assert contents(home) == before


def test_a_half_copied_delivery_waits_for_quiet_by_the_time_of_change(home: Home) -> None:
    folder = deliver(home, "2026-01", {"patients.csv": PATIENTS}, complete=False)
    old = time.time() - 10_000
    os.utime(folder / "patients.csv", (old, old))  # copies keep the time of content, not that of change
    [delivery] = find_deliveries(home, NETWORK, "HAM")
    assert not delivery.is_complete and 0 < delivery.seconds_left <= 0.3
    with pytest.raises(DeliveryError):
        receive(home, NETWORK, delivery)
    time.sleep(0.4)
    assert find_deliveries(home, NETWORK, "HAM")[0].is_complete


def test_a_changed_folder_supersedes_and_may_be_changed_back(home: Home) -> None:
    folder = deliver(home, "2026-01", {"patients.csv": PATIENTS})
    first = take(home)[0].delivery_key
    assert superseded(home, "HAM") == {}
    deliver(home, "2026-02", {"visits.csv": VISITS})
    (folder / "patients.csv").write_text(PATIENTS + "P3,F,1981,RRMS\n", encoding="utf-8")
    second = take(home)[0].delivery_key
    assert second != first and superseded(home, "HAM") == {second: first}
    (folder / "patients.csv").write_text("", encoding="utf-8")
    take(home)
    assert superseded(home, "HAM") == {second: first}, "an unreadable delivery replaces nothing"
    (folder / "patients.csv").write_text(PATIENTS, encoding="utf-8")
    last = take(home)[0]
    assert last.delivery_key == first and last.is_received
    assert superseded(home, "HAM") == {first: second}


def test_unreadable_deliveries_are_rows_with_a_reason(home: Home) -> None:
    (home.landing / "HAM" / "empty").mkdir()
    cut = home.landing / "HAM" / "cut"
    cut.mkdir()
    with zipfile.ZipFile(cut / "Schmidt.zip", "w") as packed:
        packed.writestr("patients.csv", PATIENTS)
    (cut / "Schmidt.zip").write_bytes((cut / "Schmidt.zip").read_bytes()[:60])
    linked = home.landing / "HAM" / "linked"
    linked.mkdir()
    (linked / "patients.csv").symlink_to("/etc/passwd")
    time.sleep(0.4)
    assert [delivery.is_received for delivery in take(home)] == [True] * 3
    rows = lake.read_table(home, "raw_lake__delivery").select("status", "reason_code").rows()
    assert sorted(rows) == [("unreadable", "empty_delivery")] + [("unreadable", "nothing_usable")] * 2
    codes = set(lake.read_table(home, "raw_lake__file")["reason_code"])
    assert codes == {"damaged_archive", "not_a_regular_file"}
    assert "Schmidt" not in str(list_quarantine(home).rows())


def test_members_of_archives_count_as_files(home: Home) -> None:
    folder = deliver(home, "2026-01", {})
    with zipfile.ZipFile(folder / "export.zip", "w") as packed:
        packed.writestr("patients.csv", PATIENTS)
        packed.writestr("../visits.csv", VISITS)
    take(home)
    files = lake.read_table(home, "raw_lake__file").filter(pl.col("kind") != "marker")
    assert files.select("display_name", "status", "reason_code").rows() == [
        ("export.zip", "accepted", None),
        ("export.zip > ../visits.csv", "refused", "unsafe_path"),
        ("export.zip > patients.csv", "accepted", None),
    ]
    assert not list((home.cache / "unpacked").glob("**/*.csv"))


KILLED = """
import os, signal, sys
from pathlib import Path
from ingestion.deliveries import find_deliveries
from ingestion.receive import receive
from warehouse import lake
from warehouse.home import Home, Network, Site

left = int(sys.argv[2])
original = os.replace
def replace(source, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    original(source, target)
os.replace = replace
home, network = Home(Path(sys.argv[1])), Network(quiet_seconds=0, sites=[Site(code="HAM")])
for delivery in find_deliveries(home, network, "HAM"):
    receive(home, network, delivery)
"""


def test_killed_at_any_write_and_run_again_gives_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANVIER_PSEUDONYM_KEY", "0123456789abcdef" * 4)
    files = {"patients.csv": PATIENTS, "visits.csv": VISITS}
    results: list[int] = []
    tables: list[object] = []
    for point in [999, *range(8)]:
        home = Home(tmp_path / str(point))
        (home.landing / "HAM").mkdir(parents=True)
        deliver(home, "2026-01", files)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", KILLED, str(home.root), str(point)]
        done = subprocess.run(command, env=environment, check=False, timeout=120)
        results.append(done.returncode)
        [delivery] = find_deliveries(home, NETWORK, "HAM")
        if done.returncode == -signal.SIGKILL:
            assert not delivery.is_received and superseded(home, "HAM") == {}
        assert all(delivery.is_received for delivery in take(home))
        tables.append(contents(home))
        assert tables[-1] == tables[0]
    assert results == [0] + [-signal.SIGKILL] * 8


def test_looking_again_at_many_files_reads_none_of_them(home: Home) -> None:
    folder = deliver(home, "2026-01", {f"{number}.dat": str(number) for number in range(10_000)})
    find_deliveries(home, NETWORK, "HAM")
    [cache] = (home.cache / "hashes").glob("*.json")
    known = json.loads(cache.read_text(encoding="utf-8"))
    stamp = cache.stat().st_mtime_ns
    start = time.perf_counter()
    find_deliveries(home, NETWORK, "HAM")
    assert time.perf_counter() - start < 3, "a second look must only compare sizes and times"
    assert cache.stat().st_mtime_ns == stamp and len(known) == 10_001
    assert str(folder) not in cache.read_text(encoding="utf-8")
