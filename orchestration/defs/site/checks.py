"""Checks per site partition: one per registry table, rule across tables or in time, image rule and delivery rule.

Here: how results already in the lake show as Dagster checks. Not here: judging; a check reads what a step wrote, never
blocks, and names rows and series by key only. What cannot be determined is no pass: it fails as a warning and says so.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from orchestration import steps
from orchestration.defs.resources import Workplace
from orchestration.defs.site.assets import SITES, image_verdicts, received_delivery, registry_findings
from qa.variables import by_rule
from warehouse import lake
from warehouse.dictionary import load_dictionary
from warehouse.home import Home

SAMPLE = 20
"""Failing keys shown in a check's metadata; the findings table holds them all."""
ACROSS = {
    rule.id: (entity, rule) for entity, rule in load_dictionary().rules if rule.level in ("cross_table", "longitudinal")
}
"""Rules that see more than one table or one row of time, with the table that they judge."""
LIVE_STATES = ["open", "notified", "acknowledged"]


def registry_check_name(entity: str) -> str:
    """Name of the check over all rules of a registry entity."""
    return f"rules_{entity}"


def _registry_specs() -> list[dg.AssetCheckSpec]:
    specs = []
    for entity in load_dictionary().entities.values():
        rules = [rule.id for rule in entity.all_rules if rule.id not in ACROSS]
        specs.append(
            dg.AssetCheckSpec(
                registry_check_name(entity.name),
                asset=registry_findings.key,
                description=f"Every row of {entity.name} keeps the {len(rules)} rules about that table alone.",
                partitions_def=SITES,
                metadata={"rules": rules},
            )
        )
    return specs + _rule_specs(
        {rule_id: f"No row where {rule.text}." for rule_id, (_, rule) in ACROSS.items()}, registry_findings
    )


def _rule_specs(rules: dict[str, str], asset: dg.AssetsDefinition) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(rule_id, asset=asset.key, description=text, partitions_def=SITES)
        for rule_id, text in rules.items()
    ]


@dg.multi_asset_check(specs=_registry_specs(), name="registry_checks")
def registry_checks(context: dg.AssetCheckExecutionContext, workplace: Workplace) -> Iterator[dg.AssetCheckResult]:
    """Rule results of the site: one check per registry table, and one per rule across tables or time."""
    results = by_rule(lake.read_table(workplace.home, "raw_qa__rule_result", context.partition_key))
    of_one_table = results.filter(~pl.col("rule_id").is_in(list(ACROSS)))
    for entity in load_dictionary().entities:
        yield registry_result(registry_check_name(entity), of_one_table.filter(pl.col("entity") == entity))
    for rule_id in ACROSS:
        yield registry_result(rule_id, results.filter(pl.col("rule_id") == rule_id))


def registry_result(check_name: str, results: pl.DataFrame) -> dg.AssetCheckResult:
    """The results of some rules, one row per rule, as a check.

    A broken rule of severity error makes the check an error; warnings and rules that could not be evaluated make it a
    warning.
    """
    broken = results.filter(pl.col("status") == "fail")
    unknown = results.filter(pl.col("status") == "undetermined")
    is_error = not broken.filter(pl.col("severity") == "error").is_empty()
    samples = sorted({key for keys in broken["sample_row_keys"].drop_nulls() for key in keys})
    return dg.AssetCheckResult(
        check_name=check_name,
        asset_key=registry_findings.key,
        passed=broken.is_empty() and unknown.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        metadata={
            "rules_checked": results.height,
            "rows_looked_at": int(results["denominator_count"].max() or 0),  # type: ignore[arg-type]
            "rules_broken": dict(zip(broken["rule_id"].to_list(), broken["violated_count"].to_list(), strict=True)),
            "rules_undetermined": unknown["rule_id"].to_list(),
            "sample_row_keys": samples[:SAMPLE],
        },
    )


@dg.multi_asset_check(specs=_rule_specs(steps.IMAGE_RULES, image_verdicts), name="image_checks")
def image_checks(context: dg.AssetCheckExecutionContext, workplace: Workplace) -> Iterator[dg.AssetCheckResult]:
    """Open image findings of the site, one check per image rule."""
    site = context.partition_key
    judged = lake.read_table(workplace.home, "raw_qa__verdict", site)
    undetermined = judged.filter(pl.col("verdict") == "undetermined").height
    facts = {"series_judged": judged.height, "series_undetermined": undetermined}
    findings = live_findings(workplace.home, site)
    for rule_id in steps.IMAGE_RULES:
        yield rule_result(rule_id, image_verdicts.key, findings, facts)


@dg.multi_asset_check(specs=_rule_specs(steps.DELIVERY_RULES, received_delivery), name="delivery_checks")
def delivery_checks(context: dg.AssetCheckExecutionContext, workplace: Workplace) -> Iterator[dg.AssetCheckResult]:
    """Open findings on whole deliveries of the site, one check per delivery rule."""
    findings = live_findings(workplace.home, context.partition_key)
    for rule_id in steps.DELIVERY_RULES:
        yield rule_result(rule_id, received_delivery.key, findings, {})


def live_findings(home: Home, site_code: str) -> pl.DataFrame:
    """The site's findings that nobody has resolved, accepted or rejected."""
    return lake.read_table(home, "raw_qa__finding", site_code).filter(pl.col("state").is_in(LIVE_STATES))


def rule_result(
    rule_id: str, asset_key: dg.AssetKey, findings: pl.DataFrame, facts: dict[str, int]
) -> dg.AssetCheckResult:
    """One rule's live findings as a check: passed when there are none, an error when any of them is one."""
    mine = findings.filter(pl.col("rule_id") == rule_id)
    is_error = not mine.filter(pl.col("severity") == "error").is_empty()
    return dg.AssetCheckResult(
        check_name=rule_id,
        asset_key=asset_key,
        passed=mine.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        metadata={**facts, "findings": mine.height, "sample_keys": mine["entity_key"].to_list()[:SAMPLE]},
    )


CHECKS = [delivery_checks, registry_checks, image_checks]
