"""The `site` job.

Here: which assets and checks one site's run holds. Not here: when it starts (`sensors.py`). It runs in one process:
starting a process per step costs more than the steps do, and image work has workers of its own.
"""

import dagster as dg

from orchestration.defs.site.assets import ASSETS

SITE_JOB = "site"

site_job = dg.define_asset_job(
    SITE_JOB,
    selection=dg.AssetSelection.assets(*ASSETS),
    executor_def=dg.in_process_executor,
    description="Receive, check, measure, judge and accept what one site sent.",
    tags={"ranvier/room": "site"},
)
