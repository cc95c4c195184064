"""`ranvier run`: the site job for each site with something new, then one release.

Here: which sites have something new, waiting for deliveries that are still being copied, and what is said at the end.
Not here: the runs themselves (`orchestration.headless`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ingestion import deliveries as landing
from orchestration import headless, steps
from orchestration.headless import Outcome
from orchestration.news import find_news
from orchestration.progress import Bars, bars
from warehouse import lake, releases
from warehouse.home import Home, Network
from warehouse.tables import LAKE_TABLES
from warehouse.work import Mapper

COLUMNS = (
    "files\nsent", "files\ntaken", "files\nrefused", "rows\nread", "rows\nrefused", "scans\npass", "scans\nfail",
    "un-\nclear", "find-\nings", "time",
)  # fmt: skip
"""What the table of a run says of each site; narrow enough for a terminal of 80 columns."""


@dataclass
class NetworkOutcome:
    """What a whole run came to."""

    home: Home
    sites: list[str]
    runs: list[Outcome] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """Sites with a delivery that was still changing."""

    @property
    def is_ok(self) -> bool:
        """Every run ended well. Findings and refused deliveries are part of a run that did."""
        return all(run.is_success for run in self.runs)

    def problem(self) -> str:
        """What failed, in one sentence. The error's text is in the UI only: it may quote what a site sent."""
        failed = ", ".join(run.site_code or "the release" for run in self.runs if not run.is_success)
        return f"The run of {failed} failed; the other sites are not affected. See why with: ranvier ui"

    def table(self) -> Table:
        """One line per site: what was sent, accepted, refused and found, and how long it took."""
        seconds = {run.site_code: run.seconds for run in self.runs}
        version = releases.current_version(self.home)
        title = f"Release {version}" if version else "No release yet"
        shown = Table("site", title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        for heading in COLUMNS:
            shown.add_column(heading, justify="right")
        for site in self.sites:
            counts = site_counts(self.home, site)
            took = f"{seconds[site]:.0f} s" if site in seconds else "-"
            shown.add_row(site, *(str(value) for value in counts.values()), took)
        return shown


def site_counts(home: Home, site: str) -> dict[str, int]:
    """Files and registry rows received, accepted and refused, verdicts, and live findings of a site."""
    files = lake.read_table(home, "raw_lake__file", site)
    verdicts = lake.read_table(home, "raw_qa__verdict", site)
    refused_series = verdicts.filter(verdicts["is_refused"])["series_key"].to_list()
    accepted = files.filter(
        (files["status"] == "accepted") & ~files["series_key"].is_in(refused_series).fill_null(False)
    )
    registry = [table for table in LAKE_TABLES if table.startswith("raw_registry__")]
    rows = sum(lake.read_table(home, table, site).height for table in registry)
    unread = lake.read_table(home, "raw_registry__refusal", site).height
    broken = lake.read_table(home, "raw_qa__refused_row", site)["row_key"].n_unique()
    findings = lake.read_table(home, "raw_qa__finding", site)
    return {
        "files": files.height,
        "accepted": accepted.height,
        "refused": files.height - accepted.height,
        "rows": rows,
        "rows_refused": unread + broken,
        "pass": verdicts.filter(verdicts["verdict"] == "pass").height,
        "fail": verdicts.filter(verdicts["verdict"] == "fail").height,
        "undetermined": verdicts.filter(verdicts["verdict"] == "undetermined").height,
        "findings": findings.filter(~findings["state"].is_in(["resolved", "accepted", "rejected"])).height,
    }


def _wait_until_still(home: Home, network: Network, sites: Sequence[str], progress: Bars) -> list[str]:
    """Wait once for deliveries without `_COMPLETE` to be still; returns the sites whose are not."""
    deadline = time.monotonic() + network.quiet_seconds + 5
    task = None
    while True:
        left = {
            site: delivery.seconds_left
            for site in sites
            for delivery in landing.find_deliveries(home, network, site)
            if not delivery.is_complete
        }
        if not left or time.monotonic() > deadline:
            break
        if task is None:
            task = progress.display.add_task("waiting for deliveries without _COMPLETE to be still", total=None)
        time.sleep(min(1.0, max(0.1, *left.values())))
    if task is not None:
        progress.display.remove_task(task)
    return sorted(left)


def run_network(
    home: Home, *, only: Sequence[str] | None, release: bool, mapper: Mapper, console: Console
) -> NetworkOutcome:
    """Run every site that has something new, then build and publish a release.

    Parameters
    ----------
    only
        Codes of the sites to run, whether or not they have something new; all sites that have without them.
    release
        Whether to build a release; one is built when it would differ from the current one.
    mapper
        Who does image work.

    Raises
    ------
    HomeError
        There is no home, it is in use, or it has no such site.
    """
    network = home.network()
    sites = [network.site(code).code for code in only] if only else [site.code for site in network.sites]
    with (
        bars(console) as progress,
        headless.session(home, mapper=mapper, progress=progress) as instance,
    ):
        outcome = NetworkOutcome(home, sites)
        outcome.unfinished = _wait_until_still(home, network, sites, progress)
        chosen = [site for site in sites if only or find_news(home, network, site)]
        outcome.runs += headless.run_sites(home, chosen, instance)
        has_data = not lake.read_table(home, "raw_lake__accepted").is_empty()
        if release and has_data and releases.is_due(home):
            task = progress.display.add_task("release: tiers, gate, reports", total=None)
            outcome.runs.append(headless.run_release(home, instance))
            progress.display.remove_task(task)
        elif release and steps.sites_without_report(home):
            outcome.runs.append(headless.run_reports(home, instance))
    waiting = releases.waiting_version(home)
    if release and waiting:
        console.print(f"Release {waiting} is built and waits; publish it with: ranvier release publish {waiting}")
    for site in outcome.unfinished:
        console.print(f"{site}: a delivery is still changing and was left for the next run.")
    return outcome
