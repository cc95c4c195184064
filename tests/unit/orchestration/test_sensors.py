"""When the sensors ask for a run, and when they stop asking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from orchestration import steps
from orchestration.defs.release.assets import site_reports
from orchestration.defs.release.sensors import after_sites_sensor
from orchestration.defs.resources import Workplace
from orchestration.defs.site.sensors import ATTEMPTS, CONTENT_TAG, landing_sensor
from tests.faults.homes import SECRET, deliver
from warehouse import lake, releases
from warehouse.home import Home
from warehouse.pseudonyms import KEY_VARIABLE
from warehouse.tables import schema_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    made = Home(tmp_path / "home")
    for folder in made.folders():
        folder.mkdir(parents=True)
    made.network_file.write_text("quiet_seconds: 3600\nsites: [{code: AAA1}, {code: BBB1}]\n", encoding="utf-8")
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def _look(sensor: dg.SensorDefinition, home: Home, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    workplace = Workplace(root=str(home.root))
    with dg.build_sensor_context(instance=instance, resources={"workplace": workplace}) as context:
        answer = sensor(context)
    if isinstance(answer, dg.SensorResult):
        return list(answer.run_requests or [])
    return [answer] if isinstance(answer, dg.RunRequest) else []


def _note_run(instance: dg.DagsterInstance, request: dg.RunRequest, job: str, status: dg.DagsterRunStatus) -> None:
    """Record a run as the daemon would for a request."""
    instance.run_storage.add_run(
        dg.DagsterRun(job_name=job, tags={**request.tags, **_partition(request)}, status=status)
    )


def _partition(request: dg.RunRequest) -> dict[str, str]:
    return {"dagster/partition": request.partition_key} if request.partition_key else {}


def test_landing_asks_per_site_for_what_is_complete_and_gives_up_in_the_end(
    home: Home, instance: dg.DagsterInstance
) -> None:
    deliver(home, "AAA1")
    deliver(home, "BBB1")
    (home.landing / "BBB1" / "first" / "_COMPLETE").unlink()
    keys = set()
    for _ in range(ATTEMPTS):
        (request,) = _look(landing_sensor, home, instance)
        assert request.partition_key == "AAA1"
        keys.add(request.run_key)
        _note_run(instance, request, "site", dg.DagsterRunStatus.FAILURE)
    assert len(keys) == ATTEMPTS  # Dagster never repeats a key
    assert _look(landing_sensor, home, instance) == []


def test_a_site_whose_run_died_after_receiving_is_run_again(home: Home, instance: dg.DagsterInstance) -> None:
    deliver(home, "AAA1")
    (first,) = _look(landing_sensor, home, instance)
    steps.receive_site(home, "AAA1")
    _note_run(instance, first, "site", dg.DagsterRunStatus.STARTED)
    assert _look(landing_sensor, home, instance) == []
    instance.report_run_failed(instance.get_runs()[0])
    (second,) = _look(landing_sensor, home, instance)
    assert second.partition_key == "AAA1"
    steps.accept_site(home, "AAA1")
    assert _look(landing_sensor, home, instance) == []


def test_release_follows_the_data_and_waits_for_sites(home: Home, instance: dg.DagsterInstance) -> None:
    assert _look(after_sites_sensor, home, instance) == []
    deliver(home, "AAA1")
    (site,) = _look(landing_sensor, home, instance)
    steps.receive_site(home, "AAA1")
    steps.accept_site(home, "AAA1")
    (request,) = _look(after_sites_sensor, home, instance)
    assert request.asset_selection is None
    assert request.tags[CONTENT_TAG] == releases.inputs_sha256(home)
    _note_run(instance, site, "site", dg.DagsterRunStatus.STARTED)
    assert _look(after_sites_sensor, home, instance) == []
    instance.report_run_failed(instance.get_runs()[0])  # a failed site holds up nobody
    (again,) = _look(after_sites_sensor, home, instance)
    assert again.run_key == request.run_key


def test_a_release_without_reports_gets_them_alone(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"site_code": "AAA1", "delivery_key": "dlv_1", "sequence_number": 1}
    frame = pl.DataFrame([row], schema=schema_of("raw_lake__accepted"))
    lake.write_part(home, "raw_lake__accepted", frame, "AAA1")
    monkeypatch.setattr(releases, "is_due", lambda _: False)
    monkeypatch.setattr(releases, "current_version", lambda _: "2026-01-01.1")
    (request,) = _look(after_sites_sensor, home, instance)
    assert request.asset_selection == [site_reports.key]
    for site in ("AAA1", "BBB1"):
        lake.write_json(home.reports / site / "2026-01-01.1" / "mail.json", {})
    assert _look(after_sites_sensor, home, instance) == []
