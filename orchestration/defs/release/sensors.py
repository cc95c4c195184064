"""The release sensor: one release after the sites' runs are over.

Here: when a release is due. Not here: what it holds. A site's run that failed is over too: the others' release does
not wait for it.
"""

import dagster as dg

from orchestration.defs.release.jobs import RELEASE_JOB, release_job
from orchestration.defs.resources import Workplace
from orchestration.defs.site.jobs import SITE_JOB
from orchestration.defs.site.sensors import UNFINISHED
from warehouse import lake

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.sensor(
    name="after_sites",
    job=release_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one release when site runs have ended and none is waiting or running.",
)
def after_sites_sensor(context: dg.SensorEvaluationContext, workplace: Workplace) -> dg.RunRequest | dg.SkipReason:
    """Request a release for the newest ended site run, once."""
    instance = context.instance
    if instance.get_runs(dg.RunsFilter(job_name=SITE_JOB, statuses=UNFINISHED), limit=1):
        return dg.SkipReason("Site runs are under way.")
    if instance.get_runs(dg.RunsFilter(job_name=RELEASE_JOB, statuses=UNFINISHED), limit=1):
        return dg.SkipReason("A release is under way.")
    ended = instance.get_run_records(
        dg.RunsFilter(job_name=SITE_JOB, statuses=FINISHED), limit=1, order_by="update_timestamp"
    )
    if not ended:
        return dg.SkipReason("No site run has ended yet.")
    run_id = ended[0].dagster_run.run_id
    if run_id == context.cursor:
        return dg.SkipReason("The last site run is in a release already, or was in its attempt.")
    if lake.read_table(workplace.home, "raw_lake__accepted").is_empty():
        return dg.SkipReason("No site has an accepted delivery yet.")
    context.update_cursor(run_id)
    return dg.RunRequest(run_key=f"release/{run_id}")
