"""The PostgreSQL mirror's load and whole publish, beside COPY of the same rows: `python -m tests.bench.mirror [N]`.

Here: N visits (2 million by default) in the registered tier, on a server started for it. Not here: other benchmarks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "warehouse" / "mirror"))

import duckdb
from homes import make_home, write_release
from server import find_binaries, running

from warehouse.mirror.databases import Target, statuses
from warehouse.mirror.publish import publish

VISITS = 100


def main() -> None:
    """Print the table's rows."""
    rows = int(sys.argv[1]) if sys.argv[1:] else 2_000_000
    binaries = find_binaries()
    if binaries is None:
        sys.exit("no PostgreSQL server here; install it with: apt install postgresql")
    with tempfile.TemporaryDirectory() as folder, running(binaries) as server:
        home = make_home(Path(folder) / "home")
        write_release(home, "2026-11-24.1", subjects=rows // VISITS, visits=VISITS)
        server.ranvier(home.root, "--init", check=False)
        server.stop()
        server.start()
        os.environ.update(server.environment)
        total = rows + rows // VISITS
        loaded: list[float] = []
        started = time.perf_counter()

        def say(what: str, done: int, of: int) -> None:
            if what == "registered" and done == of:
                loaded.append(time.perf_counter() - started)

        publish(home, say)
        whole = time.perf_counter() - started
        csv = Path(folder) / "visits.csv"
        with duckdb.connect(str(home.current_release / "registered.duckdb"), read_only=True) as db:
            db.execute(f"copy fct_visit to '{csv}' (header false)")
        (state,) = [state for state in statuses(home) if state.target == Target("registered")]
        with server.admin(state.database) as admin:
            admin.execute("set default_transaction_read_only = off")
            admin.execute("create table release.peer (like release.fct_visit)")
        began = time.perf_counter()
        subprocess.run(
            [binaries / "psql", "-Xqc", f"\\copy release.peer from '{csv}' (format csv)", state.database],
            check=True, env=os.environ | {"PGOPTIONS": "-c default_transaction_read_only=off"},
        )  # fmt: skip
        peer = time.perf_counter() - began
    for name, count, seconds in (
        ("load from the tier file", total, loaded[0]),
        ("publish: load, keys, indexes, statistics, swap", total, whole),
        ("peer: psql copy from CSV, nothing else", rows, peer),
    ):
        sys.stdout.write(f"| {name} | {count} | {seconds:.1f} s | {count / seconds / 1e6:.2f} M rows/s |\n")


if __name__ == "__main__":
    main()
