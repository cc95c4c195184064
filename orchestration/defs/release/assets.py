"""Assets of the network: dbt's tables, the published release, the site reports.

Here: how dbt's models become assets, and what follows them. Not here: SQL, tiers, the gate. dbt is the only writer of
a build's DuckDB files, so everything that writes them shares one pool of one slot.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets
from dagster_dbt.compat import DBT_PYTHON_VERSION
from packaging.version import Version

from orchestration import steps
from orchestration.defs.resources import Workplace
from orchestration.instance import WRITER_POOL
from warehouse import releases
from warehouse.errors import ReleaseError

GROUP = "release"
OWNERS = ["team:data-management"]


class InstalledDbt(DbtCliResource):
    """The dbt beside this Python. To learn its version `dbt --version` would be run, and that asks pypi.org."""

    @property
    def _cli_version(self) -> Version:
        return DBT_PYTHON_VERSION


_builds: dict[str, releases.Build] = {}
"""Run id -> the build that dbt fills in this run; the job runs in one process, and a build never outlives its run."""


class Translator(DagsterDbtTranslator):
    """dbt's models under the network's group and owners; their names stay the tables' names."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return GROUP

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey([str(dbt_resource_props["name"])])


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the child processes started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dbt_tables(manifest: Path) -> dg.AssetsDefinition:
    """The dbt models of a parsed project as assets of one step."""

    @dbt_assets(manifest=manifest, name="dbt_tables", dagster_dbt_translator=Translator(), pool=WRITER_POOL)
    def build(context: dg.AssetExecutionContext, workplace: Workplace) -> Iterator[Any]:
        """Staging, core and marts of every tier, built from the accepted deliveries only."""
        started = steps.start_release(workplace.home)
        _builds[context.run_id] = started
        dbt = InstalledDbt(
            project_dir=str(started.project_dir),
            profiles_dir=str(started.project_dir),
            # The environment need not be activated: dbt lies beside the Python that runs this.
            dbt_executable=str(Path(sys.executable).with_name("dbt")),
        )
        with environment(started.environment):
            yield from dbt.cli(["build"], context=context, target_path=started.folder / "target").stream()

    return build


def published_release(upstream: list[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset that passes a build through the gate and publishes it."""

    @dg.asset(
        name="published_release", group_name=GROUP, kinds={"duckdb"}, owners=OWNERS, deps=upstream, pool=WRITER_POOL
    )
    def publish(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
        """One DuckDB file per access tier, passed through the gate and published by one rename."""
        build = _builds.pop(context.run_id, None)
        if build is None:
            raise ReleaseError("A release is built and published in one run; launch the whole release job again")
        is_published = steps.publish_release(workplace.home, build)
        if not is_published:
            context.log.info(
                f"{build.version} waits: publish it with the publish_release job or ranvier release publish"
            )
        return dg.MaterializeResult(metadata={"release_version": build.version, "is_published": is_published})

    return publish


@dg.asset(group_name=GROUP, kinds={"html"}, owners=OWNERS, deps=["published_release"])
def site_reports(context: dg.AssetExecutionContext, workplace: Workplace) -> dg.MaterializeResult[None]:
    """One report and one mail per site on the published release."""
    version = releases.current_version(workplace.home)
    if version is None:
        context.log.info("No release is published yet, so there is nothing to report on.")
        return dg.MaterializeResult(metadata={"reports": 0})
    done = steps.report_sites(workplace.home, version, workplace.tools.progress)
    for site, reason in done.failed.items():
        context.log.warning(f"{site} has no report: {reason}")
    return dg.MaterializeResult(
        metadata={"release_version": version, "reports": len(done.sites), "sites_without": sorted(done.failed)}
    )
