"""The Dagster instance of a home: SQLite in `<home>/dagster`, no telemetry, one writer of DuckDB.

Here: its configuration files and the environment that child processes need. Not here: what runs in it, and what is
done about runs that died (`orchestration.recovery`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from warehouse.home import Home
from warehouse.lake import write_bytes

HOME_VARIABLE = "RANVIER_HOME"
WRITER_POOL = "duckdb_writer"
QUIET = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "NO_MIGAS": "1",
}
"""A registry sends nothing out unasked."""


def configuration() -> dict[str, Any]:
    """What `dagster.yaml` holds.

    Site runs go one after the other: image work has its own workers, and two brain masks at once need more memory than
    a small machine has.
    """
    return {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},  # the UI would ask for a mail address to send to its makers
        "storage": {"sqlite": {"base_dir": {"env": "DAGSTER_HOME"}}},
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": {
            "runs": {"max_concurrent_runs": 1},
            "pools": {"granularity": "op", "default_limit": 1},
        },
        "run_monitoring": {"enabled": False},
        "sensors": {"use_threads": False},
    }


def workspace() -> dict[str, Any]:
    """What `workspace.yaml` holds: the one code location."""
    return {"load_from": [{"python_module": {"module_name": "orchestration.definitions", "location_name": "ranvier"}}]}


def prepare(home: Home) -> Path:
    """Write the instance's files into the home where they differ. Returns the folder (DAGSTER_HOME).

    Raises
    ------
    HomeError
        There is no home here.
    """
    home.network()
    home.dagster.mkdir(parents=True, exist_ok=True)
    for name, content in (("dagster.yaml", configuration()), ("workspace.yaml", workspace())):
        target = home.dagster / name
        text = yaml.safe_dump(content, sort_keys=False).encode()
        if not target.exists() or target.read_bytes() != text:
            write_bytes(target, text)
    return home.dagster


def variables(home: Home) -> dict[str, str]:
    """Environment of every process that works on this home."""
    code = str(Path(__file__).parents[1])
    paths = [code, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != code)]
    return {
        "DAGSTER_HOME": str(home.dagster),
        HOME_VARIABLE: str(home.root),
        "PYTHONPATH": os.pathsep.join(paths),
        **QUIET,
    }


@contextmanager
def open_instance(home: Home) -> Iterator[dg.DagsterInstance]:
    """The home's instance, with this process's environment set for it and its children."""
    prepare(home)
    os.environ.update(variables(home))
    with dg.DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(WRITER_POOL, 1)
        yield instance
