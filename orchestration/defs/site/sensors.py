"""The landing sensor: a site's run starts when a complete delivery of it is new.

Here: what is new, and whether it was tried before. Not here: receiving. A delivery still being copied is not seen; a
run that failed is tried again a few times, and then waits for a data manager.
"""

from collections.abc import Iterable

import dagster as dg

from ingestion.deliveries import Delivery
from orchestration import steps
from orchestration.defs.resources import Workplace
from orchestration.defs.site.assets import SITES
from orchestration.defs.site.jobs import SITE_JOB, site_job
from warehouse.lake import sha256_json

ATTEMPTS = 3
"""Runs on unchanged deliveries: enough for a crash or a full disk, and not an endless loop over a defect."""
CONTENT_TAG = "ranvier/content"
ATTEMPT_TAG = "ranvier/attempt"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def content_of(waiting: Iterable[Delivery]) -> str:
    """One short name for what a site's waiting deliveries hold; it changes when any file of them does."""
    return sha256_json(sorted(str(delivery.manifest_sha256) for delivery in waiting))[:16]


@dg.sensor(
    name="landing",
    job=site_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a site's run when a complete delivery of it has not been received.",
)
def landing_sensor(context: dg.SensorEvaluationContext, workplace: Workplace) -> dg.SensorResult | dg.SkipReason:
    """Look at each site's landing folder; add its partition and request its run in the same tick."""
    known = set(context.instance.get_dynamic_partitions("sites"))
    sites = [site.code for site in workplace.network.sites]
    requests: list[dg.RunRequest] = []
    for site in sites:
        running = dg.RunsFilter(job_name=SITE_JOB, statuses=UNFINISHED, tags={"dagster/partition": site})
        if context.instance.get_runs(running, limit=1):
            continue
        waiting = steps.waiting_deliveries(workplace.home, site)
        if not waiting:
            continue
        content = content_of(waiting)
        tried = context.instance.get_runs(
            dg.RunsFilter(job_name=SITE_JOB, tags={"dagster/partition": site, CONTENT_TAG: content})
        )
        attempt = len(tried) + 1
        if attempt > ATTEMPTS:
            context.log.warning(f"{site}: given up after {ATTEMPTS} runs on the same content; see the failed runs")
            continue
        requests.append(
            dg.RunRequest(
                run_key=f"{site}/{len(waiting)}/{content}/{attempt}",
                partition_key=site,
                tags={CONTENT_TAG: content, ATTEMPT_TAG: str(attempt)},
            )
        )
    if not requests:
        return dg.SkipReason("No complete delivery is new.")
    new = [request.partition_key for request in requests if request.partition_key not in known]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[SITES.build_add_request([str(site) for site in new])] if new else [],
    )
