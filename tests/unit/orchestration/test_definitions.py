"""Dagster's definitions load with and without a home, and hold what each job promises."""

from importlib.metadata import version
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from orchestration import steps
from orchestration.build import build_defs
from orchestration.defs.release.assets import InstalledDbt
from orchestration.defs.site.checks import ACROSS, registry_check_name, registry_result, rule_result
from qa.variables import by_rule
from warehouse.dbt import PROJECT
from warehouse.dictionary import load_dictionary
from warehouse.home import Home
from warehouse.tables import schema_of

ROOT = Path(__file__).parents[3]


def test_definitions_module_is_short() -> None:
    assert len((ROOT / "orchestration" / "definitions.py").read_text(encoding="utf-8").splitlines()) <= 30


def test_definitions_load_without_a_home(tmp_path: Path) -> None:
    repository = build_defs(home=Home(tmp_path)).get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"site", "release"}
    assert list(tmp_path.iterdir()) == []


def test_site_job_holds_every_check_and_sensors_start_by_themselves(tmp_path: Path) -> None:
    repository = build_defs(home=Home(tmp_path)).get_repository_def()
    job = repository.get_job("site")
    checks = {key.name for key in job.asset_layer.asset_graph.asset_check_keys}
    expected = {registry_check_name(name) for name in load_dictionary().entities}
    expected |= set(ACROSS) | set(steps.IMAGE_RULES) | set(steps.DELIVERY_RULES)
    assert expected <= checks
    assert {s.name for s in repository.sensor_defs if s.default_status.value == "RUNNING"} == {"landing", "after_sites"}


def _results(*rows: tuple[str, str, str, int | None, list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "site_code": "AAA1", "delivery_key": "dlv_1", "rule_id": rule, "entity": "visit", "level": "field",
                "quality_class": "accuracy", "severity": severity, "status": status, "reason": None,
                "denominator_count": 9, "violated_count": violated, "sample_row_keys": keys,
            }
            for rule, severity, status, violated, keys in rows
        ],
        schema=schema_of("raw_qa__rule_result"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "passed", "severity"),
    [
        ([("R01", "error", "pass", 0, [])], True, "WARN"),
        ([("R01", "error", "fail", 1, ["k1"])], False, "ERROR"),
        ([("R02", "warning", "fail", 1, ["k1"])], False, "WARN"),
        ([("R01", "error", "undetermined", None, [])], False, "WARN"),
    ],
)
def test_a_check_of_registry_rules(
    rows: list[tuple[str, str, str, int | None, list[str]]], passed: bool, severity: str
) -> None:
    result = registry_result("rules_visit", by_rule(_results(*rows)))
    assert (result.passed, result.severity.value) == (passed, severity)
    keys = sorted(key for row in rows for key in row[4])
    assert result.metadata["sample_row_keys"].value == keys


def test_rule_result_looks_at_its_own_rule_only() -> None:
    findings = pl.DataFrame(
        [{"rule_id": "IMG_SNR", "severity": "warning", "entity_key": "ser_1"}],
    )
    key = dg.AssetKey("image_verdicts")
    assert not rule_result("IMG_SNR", key, findings, {}).passed
    assert rule_result("IMG_BIAS", key, findings, {}).passed


def test_dbt_is_not_asked_for_its_version_as_that_asks_the_internet(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    dbt = tmp_path / "dbt"
    dbt.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    dbt.chmod(0o755)
    resource = InstalledDbt(project_dir=str(PROJECT), profiles_dir=str(PROJECT), dbt_executable=str(dbt))
    assert str(resource._cli_version) == version("dbt-core")
    assert not asked.exists()
