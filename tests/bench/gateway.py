"""The HTTP gateway beside DuckDB in this process, and 50 clients while releases are published.

`python -m tests.bench.gateway`: makes a release of 931,104 visits in a temporary home. Here: what is timed, and the
rows of the tables in docs/benchmarks.md. Not here: limits as assertions (a busy machine would break them).
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import httpx
import yaml

from tests.integration.warehouse.serving import Served, serving
from warehouse import lake, releases
from warehouse.home import Home

VISITS = 931_104
RUNS = 40
CLIENTS, SECONDS, PUBLISHED = 50, 60.0, 5
GROUP_BY = (
    "select visit_year, visit_type, count(*) as visits, avg(edss) as edss from fct_visit group by 1, 2 order by 1, 2"
)


def make_home(root: Path) -> Home:
    """A home with one release whose `registered` file holds simulated visits."""
    home = Home(root)
    version = home.releases / "2026-11-24.1"
    (version / "site").mkdir(parents=True)
    network = {"sites": [{"code": "AA"}], "gateway": {"requests_per_minute": 10_000_000}}
    home.network_file.write_text(yaml.safe_dump(network))
    for name in ("open", "registered", "steward", "site/AA"):
        with duckdb.connect(str(version / f"{name}.duckdb")) as db:
            db.execute(
                "create table fct_visit as select 'S' || (i % 50000) as subject_key,"
                " 2000 + (i * 7919) % 25 as visit_year,"
                " ['clinical', 'phone', 'relapse'][1 + i % 3] as visit_type, (i * 31 % 20) / 2.0 as edss"
                f" from range({VISITS if name == 'registered' else 1000}) as t(i)"
            )
    files = {
        str(path.relative_to(version)): {"sha256": lake.sha256_file(path)} for path in sorted(version.rglob("*.duckdb"))
    }
    facts = {
        "version": version.name,
        "files": files,
        "built_datetime": "2026-11-24T00:00:00+00:00",
        "inputs_sha256": "",
        "gate": {"is_passed": True, "problems": []},
    }
    (version / "manifest.json").write_text(json.dumps(facts))
    releases.publish(home, version.name)
    return home


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def beside_duckdb(served: Served) -> list[str]:
    """Rows of the table: through HTTP and in this process, in turn, so that both meet the same machine."""
    path = served.home.current_release.resolve() / "registered.duckdb"
    db = duckdb.connect(str(path), read_only=True, config={"threads": "2"})
    lines = []
    with served.client("rita") as client:
        for name, sql in (("`select 1`", "select 1 as one"), (f"group by two columns of {VISITS:,} rows", GROUP_BY)):

            def http(sql: str = sql) -> None:
                found = client.post("/v1/sql", json={"sql": sql, "tier": "registered", "format": "arrow"})
                assert found.status_code == 200, found.text

            def inside(sql: str = sql) -> None:
                db.execute(sql).fetchall()

            http(), inside()
            pairs = [(milliseconds(http), milliseconds(inside)) for _ in range(RUNS)]
            ours, peers = ([pair[side] for pair in pairs] for side in (0, 1))
            goal = 6.0 if sql == "select 1 as one" else 1.3 * statistics.median(peers) + 6
            lines.append(
                f"| {name} | {statistics.median(ours):.1f} ms | {min(ours):.1f} ms | {statistics.median(peers):.1f} ms"
                f" | {min(peers):.1f} ms | {goal:.1f} ms |"
            )
    return lines


def many_clients(served: Served) -> str:
    """Row of the table: clients that ask without pause while releases are published."""
    times: list[float] = []
    wrong: list[str] = []
    versions: set[str] = set()
    over = threading.Event()
    statements = ["select 1 as one", "select count(*) as n from fct_visit", GROUP_BY]

    def ask(number: int) -> None:
        name = ("rita", "other", "stew", "sita")[number % 4]
        body: dict[str, object] = {
            "tier": {"stew": "steward", "sita": "site"}.get(name, "registered"),
            "format": "arrow",
        }
        body |= {"site": "AA"} if name == "sita" else {}
        with served.client(name) as client:
            asked = number
            while not over.is_set():
                begun = time.perf_counter()
                try:
                    found = client.post("/v1/sql", json=body | {"sql": statements[asked % 3]})
                except httpx.TransportError as error:
                    wrong.append(type(error).__name__)
                    continue
                times.append((time.perf_counter() - begun) * 1000)
                if found.status_code != 200:
                    wrong.append(found.text)
                else:
                    versions.add(found.headers["ranvier-release"])
                asked += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for number in range(2, PUBLISHED + 2):
        time.sleep(SECONDS / (PUBLISHED + 1))
        version = f"2026-11-24.{number}"
        shutil.copytree(served.home.releases / "2026-11-24.1", served.home.releases / version)
        releases.publish(served.home, version)
    time.sleep(SECONDS / (PUBLISHED + 1))
    over.set()
    for thread in threads:
        thread.join()
    times.sort()
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    for sentence in sorted(set(wrong))[:5]:
        sys.stderr.write(f"{wrong.count(sentence)} x {sentence}\n")
    return (
        f"| {CLIENTS} | {SECONDS:.0f} s | {PUBLISHED} ({len(versions)} seen) | {len(times)} | {len(wrong)}"
        f" | {statistics.median(times):.0f} ms | {p99:.0f} ms | {times[-1]:.0f} ms |"
    )


def main() -> None:
    """Print the rows of both tables."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home")
        # Fifty clients share four names here.
        network = yaml.safe_load(home.network_file.read_text())
        network["gateway"]["queries_at_once"] = CLIENTS
        home.network_file.write_text(yaml.safe_dump(network))
        with serving(home) as served:
            for line in beside_duckdb(served):
                sys.stdout.write(line + "\n")
            sys.stdout.write(many_clients(served) + "\n")


if __name__ == "__main__":
    main()
