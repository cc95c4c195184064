"""Assets of one site: received, checked, measured, judged, accepted.

Here: one asset per step of `orchestration.steps`, with counts and keys as metadata. Not here: what the steps do, and
never an identifier.
"""

from collections import Counter

import dagster as dg

from orchestration import steps
from orchestration.defs.resources import Workplace
from qa.data_docs import docs_page

SITES = dg.DynamicPartitionsDefinition(name="sites")
GROUP = "site"
OWNERS = ["team:data-management"]


@dg.asset(group_name=GROUP, kinds={"python", "parquet", "dicom"}, owners=OWNERS, partitions_def=SITES)
def received_delivery(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """Deliveries of a site, read, de-identified and converted; each file accepted or refused with a reason."""
    tools = workplace.tools
    got = steps.receive_site(workplace.home, context.partition_key, tools.mapper, tools.progress)
    return dg.MaterializeResult(
        metadata={
            "new_deliveries": got.new_count,
            "unfinished_deliveries": got.unfinished_count,
            "unreadable_deliveries": got.unreadable_count,
            "loose_files": got.loose_files_count,
            "delivery_keys": got.delivery_keys,
            "tables": ["raw_lake__delivery", "raw_lake__file", "raw_registry__refusal", "raw_imaging__series"],
        }
    )


@dg.asset(group_name=GROUP, kinds={"python", "parquet"}, owners=OWNERS, partitions_def=SITES, deps=[received_delivery])
def registry_findings(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """Registry rows of a site judged by every rule of the dictionary, with Great Expectations."""
    found = steps.check_variables(workplace.home, context.partition_key)
    return dg.MaterializeResult(
        metadata={
            "findings": len(found),
            "findings_by_rule": dict(Counter(finding.rule_id for finding in found)),
            "data_docs": dg.MetadataValue.path(docs_page(workplace.home, context.partition_key)),
            "tables": ["raw_qa__rule_result", "raw_qa__refused_row", "raw_qa__finding"],
        }
    )


@dg.asset(
    group_name=GROUP, kinds={"python", "parquet", "nifti"}, owners=OWNERS, partitions_def=SITES,
    deps=[received_delivery],
)  # fmt: skip
def image_measures(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """Image measures of a site's series: a value with its unit, or the reason why there is none."""
    tools = workplace.tools
    count = steps.measure_images(workplace.home, context.partition_key, tools.mapper, tools.progress)
    return dg.MaterializeResult(metadata={"newly_measured": count, "tables": ["raw_qa__measure"]})


@dg.asset(group_name=GROUP, kinds={"python", "parquet"}, owners=OWNERS, partitions_def=SITES, deps=[image_measures])
def image_verdicts(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """Verdict on each series of a site (pass, fail or undetermined) by the thresholds of today."""
    found = steps.judge_images(workplace.home, context.partition_key)
    return dg.MaterializeResult(
        metadata={
            "verdicts": steps.verdict_counts(workplace.home, context.partition_key),
            "findings_by_rule": dict(Counter(finding.rule_id for finding in found)),
            "tables": ["raw_qa__verdict", "raw_qa__finding"],
        }
    )


@dg.asset(
    group_name=GROUP, kinds={"python", "parquet"}, owners=OWNERS, partitions_def=SITES,
    deps=[registry_findings, image_verdicts],
)  # fmt: skip
def accepted(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """Deliveries of a site that releases may use; dbt reads no other."""
    count = steps.accept_site(workplace.home, context.partition_key)
    return dg.MaterializeResult(metadata={"accepted_deliveries": count, "tables": ["raw_lake__accepted"]})


ASSETS = [received_delivery, registry_findings, image_measures, image_verdicts, accepted]
