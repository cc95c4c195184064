"""The landing sensor: a site's run starts when a complete delivery of it is new, or the last run was not finished.

Here: whether it was tried before. Not here: what is new (`orchestration.news`), receiving. A delivery still being
copied is not seen; a run that failed is tried again a few times, and then waits for a data manager.
"""

import dagster as dg

from orchestration.defs.resources import Workplace
from orchestration.defs.site.assets import SITES
from orchestration.defs.site.jobs import SITE_JOB, site_job
from orchestration.news import find_news

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


@dg.sensor(
    name="landing",
    job=site_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a site's run when a complete delivery is new, or its results do not follow from what it sent.",
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
        content = find_news(workplace.home, workplace.network, site)
        if content is None:
            continue
        tried = context.instance.get_runs(
            dg.RunsFilter(job_name=SITE_JOB, tags={"dagster/partition": site, CONTENT_TAG: content})
        )
        attempt = len(tried) + 1
        if attempt > ATTEMPTS:
            context.log.warning(f"{site}: given up after {ATTEMPTS} runs on the same content; see the failed runs")
            continue
        requests.append(
            dg.RunRequest(
                run_key=f"{site}/{content}/{attempt}",
                partition_key=site,
                tags={CONTENT_TAG: content, ATTEMPT_TAG: str(attempt)},
            )
        )
    if not requests:
        return dg.SkipReason("No site has anything new.")
    new = [request.partition_key for request in requests if request.partition_key not in known]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[SITES.build_add_request([str(site) for site in new])] if new else [],
    )
