"""The `release` job.

Here: which assets it holds. Not here: when it starts (`sensors.py`). It has no partitions: a partitioned job would
build the warehouse once per site.
"""

import dagster as dg

RELEASE_JOB = "release"

release_job = dg.define_asset_job(
    RELEASE_JOB,
    selection=dg.AssetSelection.groups("release"),
    executor_def=dg.in_process_executor,
    description="Build every tier from the accepted deliveries, pass the gate, publish, and report to the sites.",
    tags={"ranvier/room": "release"},
)
