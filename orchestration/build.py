"""Puts Dagster's definitions together.

Here: which parts there are, and how a test swaps one. Not here: the parts (`orchestration/defs/`). Without a home the
definitions still load; dbt's models join them once there is one, because the tier tables follow its policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from orchestration.defs.release.assets import dbt_tables, published_release, site_reports
from orchestration.defs.release.jobs import release_job
from orchestration.defs.release.publish import publish_release_job
from orchestration.defs.release.sensors import after_sites_sensor
from orchestration.defs.resources import Workplace
from orchestration.defs.site.assets import ASSETS
from orchestration.defs.site.checks import CHECKS
from orchestration.defs.site.jobs import site_job
from orchestration.defs.site.sensors import landing_sensor
from warehouse import dbt
from warehouse.home import Home, find_home


def build_defs(*, home: Home | None = None, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything Dagster is told.

    Parameters
    ----------
    home
        Whose dbt models are shown; by default the one RANVIER_HOME names.
    resource_overrides
        Resources by name, in place of the ones made here.
    """
    home = home or find_home()
    models = [dbt_tables(dbt.prepare(home))] if home.network_file.exists() else []
    keys = sorted(key for model in models for key in model.keys)
    return dg.Definitions(
        assets=[*ASSETS, *models, published_release(keys), site_reports],
        asset_checks=CHECKS,
        jobs=[site_job, release_job, publish_release_job],
        sensors=[landing_sensor, after_sites_sensor],
        resources={"workplace": Workplace(), **(resource_overrides or {})},
    )
