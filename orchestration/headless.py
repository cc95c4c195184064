"""Runs of Dagster's jobs without its daemon, in this process, with the same history in the UI.

Here: one run per site, one run of the release. Not here: which sites have something new, and printing
(`orchestration.cli`). The only module that uses Dagster's private way of loading a job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from time import monotonic

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from orchestration.defs.release.assets import site_reports
from orchestration.defs.release.jobs import RELEASE_JOB
from orchestration.defs.resources import Tools, working_with
from orchestration.defs.site.jobs import SITE_JOB
from orchestration.defs.site.sensors import ATTEMPT_TAG, CONTENT_TAG
from orchestration.instance import open_instance
from orchestration.news import find_news
from orchestration.recovery import home_lock, recover
from warehouse.home import Home
from warehouse.work import Mapper, Progress, serial, silent

MODULE = "orchestration.definitions"
PARTITIONS = "sites"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Keep Dagster's step-by-step chatter off the terminal; the UI has it."""


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    job: str
    site_code: str | None
    run_id: str
    is_success: bool
    seconds: float
    error: str | None = None
    """The first failed step and its error, where the run failed."""


@contextmanager
def session(home: Home, *, mapper: Mapper = serial, progress: Progress = silent) -> Iterator[dg.DagsterInstance]:
    """Take the home, recover what died, and yield its instance for runs in this process.

    Raises
    ------
    HomeError
        The home is in use, or cannot be used.
    """
    with home_lock(home), open_instance(home) as instance:
        recover(home, instance)
        with working_with(Tools(mapper, progress)):
            yield instance


def run_sites(home: Home, site_codes: Sequence[str], instance: dg.DagsterInstance) -> list[Outcome]:
    """Run the `site` job for each site, one after the other. One site's failure does not stop the next."""
    instance.add_dynamic_partitions(PARTITIONS, list(site_codes))
    outcomes = []
    for site in site_codes:
        news = find_news(home, home.network(), site) or "nothing new"
        tags = {"dagster/partition": site, CONTENT_TAG: news, ATTEMPT_TAG: "headless"}
        outcomes.append(_execute(home, instance, SITE_JOB, site, tags))
    return outcomes


def run_release(home: Home, instance: dg.DagsterInstance) -> Outcome:
    """Run the `release` job once."""
    return _execute(home, instance, RELEASE_JOB, None, {})


def run_reports(home: Home, instance: dg.DagsterInstance) -> Outcome:
    """Run the end of the `release` job alone: report to the sites on the release that is published."""
    return _execute(home, instance, RELEASE_JOB, None, {}, only=site_reports.key)


def _job(home: Home, name: str, only: dg.AssetKey | None) -> ReconstructableJob:
    repository = ReconstructableRepository.for_module(MODULE, "defs", str(home.root))
    job = repository.get_reconstructable_job(name)
    return job if only is None else job.get_subset(asset_selection={only})


def _execute(
    home: Home,
    instance: dg.DagsterInstance,
    name: str,
    site_code: str | None,
    tags: dict[str, str],
    only: dg.AssetKey | None = None,
) -> Outcome:
    job = _job(home, name, only)
    start = monotonic()
    # dbt and Dagster print what only a developer reads; what a person should see goes through Progress.
    with (
        (home.dagster / "headless.log").open("a", encoding="utf-8") as log,
        redirect_stdout(log),
        dg.execute_job(job, instance=instance, tags=tags, run_config=QUIET, raise_on_error=False) as result,
    ):
        error = None if result.success else _first_error(result)
        return Outcome(name, site_code, result.run_id, result.success, monotonic() - start, error)


def _first_error(result: dg.JobExecutionResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            info = event.step_failure_data.error
            while info is not None and info.cause is not None:
                info = info.cause
            text = info.message.strip() if info is not None else "no reason was given"
            return f"step {event.step_key}: {text}"
    return "the run failed before its first step"
