"""The release sensor: one release after the sites' runs are over.

Here: when a release is due. Not here: what it holds. It follows the data and not the runs: a site's run that failed
does not hold up the others, and a release whose run died is tried again after the next start.
"""

import dagster as dg

from orchestration import steps
from orchestration.defs.release.assets import site_reports
from orchestration.defs.release.jobs import RELEASE_JOB, release_job
from orchestration.defs.resources import Workplace
from orchestration.defs.site.jobs import SITE_JOB
from orchestration.defs.site.sensors import ATTEMPT_TAG, ATTEMPTS, CONTENT_TAG, UNFINISHED
from warehouse import lake, releases


@dg.sensor(
    name="after_sites",
    job=release_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one release when it would differ from the current one and no site run is waiting or running.",
)
def after_sites_sensor(context: dg.SensorEvaluationContext, workplace: Workplace) -> dg.RunRequest | dg.SkipReason:
    """Request a release of what the lake holds, or the reports of a release that went without; a few times at most."""
    instance, home = context.instance, workplace.home
    for job, text in ((SITE_JOB, "Site runs are under way."), (RELEASE_JOB, "A release is under way.")):
        if instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(text)
    if lake.read_table(home, "raw_lake__accepted").is_empty():
        return dg.SkipReason("No site has an accepted delivery yet.")
    if releases.is_due(home):
        content, only = releases.inputs_sha256(home), None
    elif sites := steps.sites_without_report(home):
        content, only = lake.sha256_json([releases.current_version(home), sites]), [site_reports.key]
    else:
        return dg.SkipReason("A release built now would be the current one.")
    tried = instance.get_runs(dg.RunsFilter(job_name=RELEASE_JOB, tags={CONTENT_TAG: content}))
    attempt = len(tried) + 1
    if attempt > ATTEMPTS:
        return dg.SkipReason(f"Given up after {ATTEMPTS} runs on the same data; see the failed runs.")
    return dg.RunRequest(
        run_key=f"release/{content}/{attempt}",
        asset_selection=only,
        tags={CONTENT_TAG: content, ATTEMPT_TAG: str(attempt)},
    )
