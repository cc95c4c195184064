"""What a start does about starts that died: lock, orphans, runs, slots, drafts. Real processes and a real instance."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from orchestration import recovery
from orchestration.instance import WRITER_POOL, open_instance
from warehouse.errors import HomeError
from warehouse.home import Home

HOLD = """
import sys, time
from pathlib import Path
from orchestration.recovery import home_lock
from warehouse.home import Home
with home_lock(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for name in ("DAGSTER_HOME", "RANVIER_HOME", "PYTHONPATH", *recovery_names()):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    made = Home(tmp_path / "home")
    for folder in made.folders():
        folder.mkdir(parents=True)
    made.network_file.write_text("sites: [{code: AAA1}]\n", encoding="utf-8")
    yield made


def recovery_names() -> list[str]:
    from orchestration.instance import QUIET

    return list(QUIET)


def _holder(home: Home) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.root)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "held"
    return child


def test_second_start_is_refused_and_told_who_holds_the_home(home: Home) -> None:
    child = _holder(home)
    try:
        with pytest.raises(HomeError, match=f"process {child.pid}"), recovery.home_lock(home):
            pytest.fail("two starts hold one home")
    finally:
        child.kill()
        child.wait()
    with recovery.home_lock(home):  # the lock died with its process
        assert os.environ[recovery.MARK].endswith(f":{os.getpid()}")
    assert not os.environ.get(recovery.MARK)


def test_orphans_of_a_dead_start_are_ended_and_living_ones_are_not(home: Home) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    orphan = subprocess.Popen(sleep, env={**os.environ, recovery.MARK: f"{home.root}:{dead.pid}"})
    living = subprocess.Popen(sleep, env={**os.environ, recovery.MARK: f"{home.root}:{os.getpid()}"})
    elsewhere = subprocess.Popen(sleep, env={**os.environ, recovery.MARK: f"/another/home:{dead.pid}"})
    try:
        assert recovery.end_orphans(home) == 1
        assert not psutil.pid_exists(orphan.pid)
        assert psutil.pid_exists(living.pid) and living.poll() is None
        assert elsewhere.poll() is None
    finally:
        for child in (orphan, living, elsewhere):
            child.kill()
            child.wait()


def test_dead_run_is_failed_and_its_slot_freed(home: Home) -> None:
    with open_instance(home) as instance:
        run = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
        storage = instance.event_log_storage
        claim = storage.claim_concurrency_slot(WRITER_POOL, run.run_id, "dbt_tables")
        assert claim.is_claimed
        assert not storage.claim_concurrency_slot(WRITER_POOL, "another", "dbt_tables").is_claimed
        found = recovery.recover(home, instance)
        assert (found.runs_failed, found.slots_freed >= 1) == (1, True)
        after = instance.get_run_by_id(run.run_id)
        assert after is not None and after.status == dg.DagsterRunStatus.FAILURE
        assert storage.claim_concurrency_slot(WRITER_POOL, "next", "dbt_tables").is_claimed


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        pass

    @dg.job
    def small() -> None:
        nothing()

    return small


def test_drafts_go_and_everything_else_stays(home: Home) -> None:
    gone = [
        home.releases / ".build-2026-01-01.1-aa" / "steward.duckdb",
        home.lake / "raw_lake__file" / "site=AAA1" / ".x.parquet.1.tmp",
        home.lake / "docs" / ".AAA1-k3" / "pages" / "index.html",
        home.cache / "unpacked" / "AAA1" / "1-aa" / "as_sent.dcm",
        home.cache / ".deidentified" / "AAA1" / "b2" / "half.dcm",
    ]
    kept = [
        home.lake / "raw_lake__file" / "site=AAA1" / "x.parquet",
        home.lake / "docs" / "AAA1" / "index.html",
        home.landing / "AAA1" / ".as-sent.tmp",
        home.releases / "2026-01-01.1" / "steward.duckdb",
    ]
    for path in (*gone, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    link = home.releases / ".current.aa.tmp"
    link.symlink_to("2026-01-01.1")
    assert recovery.remove_drafts(home) == len(gone) + 1
    assert not any(path.exists() for path in gone) and not link.is_symlink()
    assert all(path.exists() for path in kept)
    assert recovery.remove_drafts(home) == 0


def test_young_drafts_that_need_no_lock_are_left_to_their_writer(home: Home) -> None:
    young, old = home.cache / "dbt" / ".aa.1.tmp", home.cache / "dbt" / ".aa.2.tmp"
    page = home.reports / "AAA1" / ".index.html.1.tmp"
    for folder in (young, old, page.parent):
        folder.mkdir(parents=True)
    page.touch()
    an_age_ago = time.time() - 2 * recovery.OLD_SECONDS
    os.utime(old, (an_age_ago, an_age_ago))
    assert recovery.remove_drafts(home) == 1
    assert young.exists() and page.exists() and not old.exists()
