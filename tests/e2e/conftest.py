"""The command line as a user calls it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def ranvier() -> Run:
    """Run `ranvier` with arguments; the environment holds nothing of the caller's home."""

    def run(*arguments: str | Path, timeout: float = 900, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RANVIER_", "DAGSTER"))
        }
        environment |= {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "160"} | variables
        command = [sys.executable, "-c", "from orchestration.cli import main; main()", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY, check=False
        )

    return run
