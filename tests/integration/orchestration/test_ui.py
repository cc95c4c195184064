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

from orchestration import steps
from orchestration.ui import interface
from tests.faults.homes import deliver
from warehouse import releases
from warehouse.home import Home
from warehouse.lake import ensure_schema_parts

pytestmark = [pytest.mark.ui, pytest.mark.timeout(900)]

SELECTOR = {"repositoryLocationName": "ranvier", "repositoryName": "__repository__"}
RUNS = """query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {
  runId status jobName tags { key value } } } } }"""
CHECKS = """query($run: ID!) { logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events {
  __typename ... on AssetCheckEvaluationEvent { evaluation {
    checkName success severity partition metadataEntries { label ...on JsonMetadataEntry { jsonString } } } } } } } }"""
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

    def runs(self, job: str, status: str | None = None) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"pipelineName": job} | ({"statuses": [status]} if status else {})
        return list(self.ask(RUNS, filter=wanted)["runsOrError"]["results"])


def _until(happened: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(1)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    before = dict(os.environ)
    home = Home(tmp_path_factory.mktemp("ui") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True)
    home.network_file.write_text("quiet_seconds: 3600\nsites: [{code: AAA1}, {code: BBB1}]\n", encoding="utf-8")
    ensure_schema_parts(home)
    deliver(home, "AAA1")
    deliver(home, "BBB1")
    (home.landing / "BBB1" / "first" / "_COMPLETE").unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with interface(home, port=port) as shown:
        yield Ui(shown.address, home)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def site_run(ui: Ui) -> dict[str, Any]:
    """The run that the landing sensor started."""
    runs = _until(lambda: [r for r in ui.runs("site") if r["status"] in ("SUCCESS", "FAILURE")], "a site run")
    return dict(runs[0])


def test_sensors_run_by_themselves(ui: Ui) -> None:
    found = ui.ask(SENSORS, repository=SELECTOR)["sensorsOrError"]["results"]
    assert {s["name"]: s["sensorState"]["status"] for s in found} == {"landing": "RUNNING", "after_sites": "RUNNING"}


def test_complete_delivery_is_picked_up_and_its_partition_succeeds(site_run: dict[str, Any]) -> None:
    assert site_run["status"] == "SUCCESS"
    assert {t["key"]: t["value"] for t in site_run["tags"]}["dagster/partition"] == "AAA1"


def test_checks_show_per_partition(ui: Ui, site_run: dict[str, Any]) -> None:
    events = ui.ask(CHECKS, run=site_run["runId"])["logsForRun"]["events"]
    found = {e["evaluation"]["checkName"]: e["evaluation"] for e in events if "evaluation" in e}
    assert set(found) >= {"rules_patient", "rules_visit", *steps.IMAGE_RULES, *steps.DELIVERY_RULES}
    assert {e["partition"] for e in found.values()} == {"AAA1"}
    assert not found["rules_patient"]["success"]
    metadata = {m["label"]: m.get("jsonString") for m in found["rules_patient"]["metadataEntries"]}
    assert json.loads(metadata["sample_row_keys"])
    assert found["rules_visit"]["success"] and found["IMG_SNR"]["success"]


def test_release_follows_and_holds_the_site(ui: Ui, site_run: dict[str, Any]) -> None:
    _until(lambda: ui.runs("release", "SUCCESS"), "the release")
    manifest = json.loads((releases.release_folder(ui.home) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sites"]["AAA1"]["deliveries"] and not manifest["sites"]["BBB1"]["deliveries"]


def test_half_copied_delivery_is_left_alone(ui: Ui, site_run: dict[str, Any]) -> None:
    sites = {t["value"] for r in ui.runs("site") for t in r["tags"] if t["key"] == "dagster/partition"}
    assert sites == {"AAA1"}
    assert not (ui.home.lake / "deliveries" / "BBB1").exists()


def test_data_manager_launches_a_release(ui: Ui, site_run: dict[str, Any]) -> None:
    _until(lambda: ui.runs("release", "SUCCESS"), "the first release")
    first = releases.current_version(ui.home)
    params = {"selector": {**SELECTOR, "pipelineName": "release"}, "mode": "default", "runConfigData": {}}
    answer = ui.ask(LAUNCH, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    _until(lambda: any(r["runId"] == run_id for r in ui.runs("release", "SUCCESS")), "the launched release")
    assert releases.current_version(ui.home) != first
