"""`ranvier demo`: a simulated network with planted faults, taken through everything.

Here: the order of things and the one screen printed at the end. Not here: simulating (`ingestion.simulator`), running
(`orchestration.network_run`), scoring (`orchestration.scoring`).
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from ingestion.simulator import simulate
from orchestration import cli, compute, scoring
from orchestration.progress import bars
from warehouse import dbt, lake, releases
from warehouse.errors import HomeError, RanvierError
from warehouse.home import Home

ALL_KINDS = 12
"""Series per site of four sites that hold every kind of fault, at two severities."""
NARROW: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True}
"""Two tables beside each other in a terminal of 80 columns."""


def run_demo(home: Home, *, sites: int, subjects: int, scans: int, seed: int, fresh: bool, console: Console) -> None:
    """Simulate, run, publish, report, and print what came of it.

    Raises
    ------
    HomeError
        The folder holds something that is not a demo's home, or a demo's home and `fresh` is not set.
    RanvierError
        A run failed; the text says which.
    """
    if home.root.exists() and any(home.root.iterdir()):
        if not fresh:
            raise HomeError(f"{home.root} is not empty; choose another with --home, or replace a demo with --fresh")
        if not (home.root / "truth.json").exists():
            raise HomeError(f"{home.root} is not a demo's home and is left alone; choose another with --home")
        for old in releases.list_releases(home):  # read-only, so that nothing but this removes them
            releases.destroy(home.releases / old)
        shutil.rmtree(home.root)
    start = time.monotonic()
    cli.make_home(home, "Demo network")
    progress_console = Console(stderr=True)
    with compute.compute(home, home.network()) as mapper:
        with bars(progress_console) as progress, ThreadPoolExecutor(max_workers=1) as meanwhile:
            ready = meanwhile.submit(_get_ready, home)
            truth_file = simulate(
                home, sites=sites, subjects=subjects, scans=scans, seed=seed, mapper=mapper, progress=progress
            )
            ready.result()
        simulated = time.monotonic()
        from orchestration import network_run

        outcome = network_run.run_network(home, only=None, release=True, mapper=mapper, console=progress_console)
        finished = time.monotonic()
    console.print(outcome.table())
    if not outcome.is_ok:
        raise RanvierError(outcome.problem())
    console.print(Columns([refusals(home), planted(home, truth_file)]))
    console.print(
        f"Simulating took {simulated - start:.0f} s; receiving, checking, measuring, releasing and reporting "
        f"{finished - simulated:.0f} s."
    )
    first = outcome.sites[0]
    version = releases.current_version(home)
    here = f"--home {home.root}"
    if scans < ALL_KINDS:
        console.print(
            f"{scans} series per site hold some image faults; all are in: ranvier demo --fresh --scans {ALL_KINDS}",
            soft_wrap=True,
        )
    console.print("Try next:", style="bold")
    for command in (
        f'ranvier sql {here} --tier registered "select disease_course, count(*) from dim_subject group by 1"',
        f"ranvier ui {here}",
        f"open {home.reports / first / str(version) / 'index.html'}",
    ):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def _get_ready(home: Home) -> None:
    """What the run needs and takes seconds, on the core that building the simulated head leaves idle."""
    dbt.prepare(home)  # dbt reads its project once per home
    for name in ("orchestration.network_run", "great_expectations"):
        importlib.import_module(name)


def refusals(home: Home) -> Table:
    """What was refused and why, counted by reason."""
    counts = Counter(_refused(home))
    table = Table("refused", "reason", "count", title="Refused, and why", **NARROW)
    for (what, reason), count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(what, reason, str(count))
    return table


def _refused(home: Home) -> list[tuple[str, str]]:
    files = lake.read_table(home, "raw_lake__file")
    rows = lake.read_table(home, "raw_registry__refusal")
    broken = lake.read_table(home, "raw_qa__refused_row")
    verdicts = lake.read_table(home, "raw_qa__verdict")
    return [
        *(("file", code) for code in files.filter(files["status"] == "refused")["reason_code"].to_list()),
        *(("registry row", code) for code in rows["reason_code"].to_list()),
        *(("registry row", f"breaks rule {rule}") for rule in broken["rule_id"].to_list()),
        *(
            ("series", rule)
            for rules in verdicts.filter(verdicts["is_refused"])["rule_ids"].to_list()
            for rule in rules
        ),
    ]


def planted(home: Home, truth_file: Path) -> Table:
    """Planted faults found, per kind, and sound scans flagged."""
    table = Table("planted fault", "planted", "found", title="Planted faults", **NARROW)
    flagged = ""
    for score in scoring.score(home, truth_file):
        if score.kind == scoring.SOUND:
            flagged = f"{score.found} of {score.planted} sound scans flagged"
        else:
            table.add_row(score.kind, str(score.planted), str(score.found))
    table.caption = flagged
    return table
