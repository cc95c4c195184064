"""The Dagster UI as a data manager uses it: webserver and daemon of a fresh home, seen and driven through GraphQL."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestration import recovery, steps
from orchestration.ui import interface
from tests.faults.homes import deliver
from tests.faults.scans import add_scans
from warehouse import lake, releases
from warehouse.home import Home
from warehouse.lake import ensure_schema_parts

pytestmark = [pytest.mark.ui, pytest.mark.timeout(900)]

SELECTOR = {"repositoryLocationName": "ranvier", "repositoryName": "__repository__"}
RUNS = """query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {
  runId status jobName tags { key value } } } } }"""
EVENTS = """query($run: ID!) { logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events {
  __typename
  ... on AssetCheckEvaluationEvent { evaluation {
    checkName success severity partition metadataEntries { ...entry } } }
  ... on MaterializationEvent { assetKey { path } partition metadataEntries { ...entry } } } } } }
fragment entry on MetadataEntry { label ... on JsonMetadataEntry { jsonString }
  ... on IntMetadataEntry { intValue } }"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
SENSORS = """query($repository: RepositorySelector!) { sensorsOrError(repositorySelector: $repository) {
  ... on Sensors { results { name sensorState { status } } } } }"""


class Ui:
    """GraphQL of a running UI."""

    def __init__(self, address: str, home: Home) -> None:
        self.address = address
        self.home = home

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.address}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def runs(self, job: str, *statuses: str, site: str | None = None) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"pipelineName": job} | ({"statuses": list(statuses)} if statuses else {})
        if site:
            wanted["tags"] = [{"key": "dagster/partition", "value": site}]
        return list(self.ask(RUNS, filter=wanted)["runsOrError"]["results"])

    def site_run(self, site: str) -> dict[str, Any]:
        """The ended run of a site that the landing sensor started."""
        runs = _until(lambda: self.runs("site", "SUCCESS", "FAILURE", site=site), f"the run of {site}")
        return dict(runs[0])

    def events(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.ask(EVENTS, run=run["runId"])["logsForRun"]["events"])

    def checks(self, site: str) -> dict[str, dict[str, Any]]:
        """Check name -> evaluation, of a site's run."""
        found = [e["evaluation"] for e in self.events(self.site_run(site)) if "evaluation" in e]
        assert {e["partition"] for e in found} == {site}
        return {e["checkName"]: e | {"facts": _facts(e)} for e in found}


def _facts(event: dict[str, Any]) -> dict[str, Any]:
    entries = event["metadataEntries"]
    return {e["label"]: json.loads(e["jsonString"]) if "jsonString" in e else e.get("intValue") for e in entries}


def _until(happened: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(1)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A home with a sound and a cut-off scan at AAA1, a half-copied delivery at BBB1, an unreadable one at CCC1."""
    before = dict(os.environ)
    home = Home(tmp_path_factory.mktemp("ui") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True)
    sites = "[{code: AAA1}, {code: BBB1}, {code: CCC1}]"
    home.network_file.write_text(f"quiet_seconds: 3600\nsites: {sites}\n", encoding="utf-8")
    ensure_schema_parts(home)
    deliver(home, "AAA1")
    scans = [("P1", "T1w", "sound", None), ("P2", "T1w", "cut_off", 1.0)]
    add_scans(home.landing / "AAA1" / "first", home.cache, scans)
    deliver(home, "BBB1")
    (home.landing / "BBB1" / "first" / "_COMPLETE").unlink()
    (home.landing / "CCC1" / "first").mkdir(parents=True)
    (home.landing / "CCC1" / "first" / "_COMPLETE").touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with interface(home, port=port) as shown:
        yield Ui(shown.address, home)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def manifest(ui: Ui) -> dict[str, Any]:
    """Of the release that followed the first site runs."""
    _until(lambda: ui.runs("release", "SUCCESS"), "the release")
    text = (releases.release_folder(ui.home) / "manifest.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def test_sensors_run_by_themselves(ui: Ui) -> None:
    found = ui.ask(SENSORS, repository=SELECTOR)["sensorsOrError"]["results"]
    assert {s["name"]: s["sensorState"]["status"] for s in found} == {"landing": "RUNNING", "after_sites": "RUNNING"}


def test_complete_delivery_is_picked_up_and_its_partition_succeeds(ui: Ui) -> None:
    assert ui.site_run("AAA1")["status"] == "SUCCESS"


def test_registry_checks_show_per_partition(ui: Ui) -> None:
    found = ui.checks("AAA1")
    assert set(found) >= {"rules_patient", "rules_visit", *steps.IMAGE_RULES, *steps.DELIVERY_RULES}
    assert not found["rules_patient"]["success"] and found["rules_patient"]["severity"] == "WARN"  # R05b is a warning
    assert found["rules_patient"]["facts"]["sample_row_keys"]
    assert found["rules_visit"]["success"] and found["DELIVERY_UNREADABLE"]["success"]


def test_image_checks_tell_the_cut_off_scan_from_the_sound_one(ui: Ui) -> None:
    found = ui.checks("AAA1")
    assert not found["IMG_CUT_OFF"]["success"] and found["IMG_CUT_OFF"]["severity"] == "ERROR"
    (series,) = found["IMG_CUT_OFF"]["facts"]["sample_keys"]
    assert found["IMG_CUT_OFF"]["facts"]["series_judged"] == 2
    passed = {name for name in ("IMG_SNR", "IMG_CONTRAST", "IMG_POSITION") if found[name]["success"]}
    assert passed == {"IMG_SNR", "IMG_CONTRAST", "IMG_POSITION"}
    verdicts = lake.read_table(ui.home, "raw_qa__verdict", "AAA1")
    told = dict(verdicts.select("series_key", "verdict").iter_rows())
    assert told.pop(series) == "fail"
    assert list(told.values()) == ["pass"]


def test_images_are_measured_by_dask_workers_of_the_run(ui: Ui) -> None:
    events = ui.events(ui.site_run("AAA1"))
    (made,) = [e for e in events if e.get("assetKey") == {"path": ["image_measures"]} and "metadataEntries" in e]
    assert _facts(made)["newly_measured"] == 2
    assert (ui.home.cache / "dask").is_dir()  # only Dask's workers make it
    assert not any(recovery.orphans(ui.home))


def test_unreadable_delivery_fails_its_own_check_and_not_its_run(ui: Ui) -> None:
    assert ui.site_run("CCC1")["status"] == "SUCCESS"
    assert not ui.checks("CCC1")["DELIVERY_UNREADABLE"]["success"]


def test_release_follows_and_holds_the_site_that_can_be_read(manifest: dict[str, Any]) -> None:
    sites = manifest["sites"]
    assert sites["AAA1"]["deliveries"] and not sites["BBB1"]["deliveries"] and not sites["CCC1"]["deliveries"]
    assert sites["CCC1"]["is_newest_delivery_failed"]


def test_half_copied_delivery_is_left_alone_until_it_is_whole(ui: Ui, manifest: dict[str, Any]) -> None:
    assert ui.runs("site", site="BBB1") == []
    assert not (ui.home.lake / "deliveries" / "BBB1").exists()
    (ui.home.landing / "BBB1" / "first" / "_COMPLETE").touch()
    assert ui.site_run("BBB1")["status"] == "SUCCESS"
    _until(lambda: len(ui.runs("release", "SUCCESS")) >= 2, "the release with BBB1")
    text = (releases.release_folder(ui.home) / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["sites"]["BBB1"]["deliveries"]
    assert steps.sites_without_report(ui.home) == []


def test_data_manager_launches_a_release(ui: Ui, manifest: dict[str, Any]) -> None:
    first = releases.current_version(ui.home)
    params = {"selector": {**SELECTOR, "pipelineName": "release"}, "mode": "default", "runConfigData": {}}
    answer = ui.ask(LAUNCH, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    _until(lambda: any(r["runId"] == run_id for r in ui.runs("release", "SUCCESS")), "the launched release")
    assert releases.current_version(ui.home) != first


def test_nothing_runs_when_nothing_is_new(ui: Ui, manifest: dict[str, Any]) -> None:
    before = len(ui.runs("site")), len(ui.runs("release"))
    time.sleep(25)  # two looks of each sensor
    assert (len(ui.runs("site")), len(ui.runs("release"))) == before
