"""Kill -9 while questions are written: none that was acknowledged is lost, and the chain goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from warehouse import chain

WRITER = """
import sys
from pathlib import Path
from warehouse import chain
chain.SEGMENT_BYTES = 20_000
number = 0
while True:
    number += 1
    name = f"{sys.argv[2]}/{number}"
    chain.append(Path(sys.argv[1]), {"user": name, "statement": "x" * 2000})
    sys.stdout.write(name + "\\n")  # acknowledged
    sys.stdout.flush()
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_what_was_acknowledged_is_in_the_log(tmp_path: Path, rounds: int) -> None:
    folder, acknowledged = tmp_path / "audit", []
    chance = random.Random(6)
    for turn in range(rounds):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(folder), f"{turn}.{n}"], stdout=subprocess.PIPE, text=True
            )
            for n in range(2)
        ]
        first = [writer.stdout.readline() for writer in writers if writer.stdout]  # both are at work
        time.sleep(chance.uniform(0, 0.1))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            said, _ = writer.communicate()
            # The last line may be cut; only whole ones were acknowledged.
            acknowledged += [line for line in said.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged += first
        assert chain.verify(folder).is_whole
    chain.append(folder, {"user": "after"})
    verdict = chain.verify(folder)
    assert verdict.is_whole, verdict.problems
    users = [record.get("user") for record in chain.records(folder)]
    assert not {line.strip() for line in acknowledged} - set(users)
    assert len(set(users)) == len(users) and users[-1] == "after"
