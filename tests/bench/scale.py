"""The warehouse at the size of a large network: `python -m tests.bench.scale [--visits 50000000] [--folder FOLDER]`.

Generates a lake, builds every tier from it with the real dbt project, and times in the same run the bare DuckDB
statements that such a build cannot do without, on the same Parquet. Prints times, peak memory and the ratio. Not here:
the data (`scale_lake`), results (`docs/benchmarks.md`). The whole size needs about 25 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from tests.bench.scale_lake import make_lake
from warehouse import dbt, releases
from warehouse.home import Home

WHOLE = 50_000_000
GIB = 1 << 30

STATEMENTS = {
    "star join with consent -> table": """
        create table visit as
        select v.*, p.sex, p.birth_date, p.onset_date, p.disease_course
        from visits v
        join patients p on p.subject_key = v.subject_key
        join consents c on c.subject_key = v.subject_key
        where c.is_research_sharing_consented and c.withdrawal_date is null
    """,
    "window lag": """
        select avg(change) from (
            select edss - lag(edss) over (partition by subject_key order by visit_date) as change from visit)
    """,
    "registered tier export": """
        copy (
            select m.pseudonym, year(v.visit_date) as visit_year,
                date_sub('year', v.birth_date, v.visit_date) // 10 * 10 as age_band, v.sex, v.disease_course,
                v.visit_type, v.edss, v.fs_pyramidal, v.fs_cerebellar, v.fs_visual, v.t25fw_s, v.sdmt_score
            from visit v join pseudonyms m using (subject_key)
        ) to '{folder}/registered.parquet' (format parquet, compression zstd)
    """,
    "group by 3, count distinct": """
        select sex, disease_course, year(visit_date), count(*), count(distinct subject_key) from visit group by all
    """,
    "Parquet decode, 10 columns": """
        select max(subject_key), max(visit_date), max(visit_type), max(edss), max(fs_pyramidal), max(fs_cerebellar),
            max(fs_visual), max(t25fw_s), max(sdmt_score), max(source_row)
        from visits
    """,
}
"""The table of the reference measurements, statement by statement, on this lake's columns."""


def run_raw(home: Home, folder: Path) -> None:
    """Time each bare statement in this process; prints JSON."""
    parts = (
        f"read_parquet('{home.lake}/raw_registry__{{}}/*/*.parquet', union_by_name = true, hive_partitioning = false)"
    )
    seconds: dict[str, float] = {}
    with duckdb.connect(str(folder / "raw.duckdb"), config={"threads": 2}) as db:
        for view, entity in (("visits", "visit"), ("patients", "patient"), ("consents", "consent")):
            db.execute(f"create view {view} as select * from {parts.format(entity)}")
        db.execute(
            "create table pseudonyms as select subject_key, row_number() over () as pseudonym from patients"
        )  # made once when a subject arrives, so not part of a build
        for name, sql in STATEMENTS.items():
            start = time.perf_counter()
            db.execute(sql.format(folder=folder)).fetchall()
            seconds[name] = time.perf_counter() - start
    sys.stdout.write(json.dumps(seconds))


@dataclass(frozen=True)
class Measured:
    """What a child process took. On a busy machine compare the CPU seconds: waiting for a core is not in them."""

    wall: float
    cpu: float
    peak_bytes: int
    output: str


def measured(command: list[str], environment: dict[str, str], folder: Path) -> Measured:
    """Run a child process to its end."""
    start = time.perf_counter()
    with (folder / "out.txt").open("w+", encoding="utf-8") as out:
        child = subprocess.Popen(command, env=os.environ | environment, cwd=Path(__file__).parents[2], stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        text = out.read()
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{text[-3000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text)


def slowest(target: Path, count: int) -> list[tuple[str, float]]:
    """The nodes of a dbt run that took longest."""
    results: list[dict[str, Any]] = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    times = [(str(result["unique_id"]), float(result["execution_time"])) for result in results]
    return sorted(times, key=lambda pair: -pair[1])[:count]


def main() -> None:
    """Generate, build, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visits", type=int, default=WHOLE)
    parser.add_argument("--measures", type=int, help="a tenth of the visits by default")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/ranvier-scale"))
    parser.add_argument("--keep", action="store_true", help="keep the folder, and use the lake that lies in it")
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    home = Home(chosen.folder / "home")
    if chosen.raw:
        run_raw(home, chosen.raw)
        return
    say = sys.stdout.write
    start = time.perf_counter()
    if not (chosen.keep and home.network_file.exists()):
        make_lake(home.root, chosen.visits, chosen.measures or chosen.visits // 10)
    say(f"lake of {chosen.visits:,} visits made in {time.perf_counter() - start:.0f} s\n")
    dbt.prepare(home)
    raw_folder = chosen.folder / "raw"
    shutil.rmtree(raw_folder, ignore_errors=True)
    raw_folder.mkdir()
    command = [sys.executable, "-m", "tests.bench.scale", "--folder", str(chosen.folder), "--raw", str(raw_folder)]
    bare = measured(command, {}, raw_folder)
    raw = json.loads(bare.output)
    for name, seconds in raw.items():
        say(f"raw: {name}: {seconds:.1f} s\n")
    peer = sum(raw.values())
    say(f"raw: sum {peer:.1f} s, {bare.cpu:.0f} s of CPU, peak {bare.peak_bytes / GIB:.1f} GiB\n")
    shutil.rmtree(raw_folder)
    build = releases.start_build(home, now=datetime.now(UTC))
    command = [sys.executable, "-m", "dbt.cli.main", "build", "--quiet"]
    ours = measured(command, build.environment, build.folder)
    (build.folder / "out.txt").unlink()
    for name, seconds in slowest(build.folder / "target", 15):
        say(f"dbt: {name}: {seconds:.1f} s\n")
    size = sum(path.stat().st_size for path in build.folder.rglob("*.duckdb"))
    say(f"dbt build: {ours.wall:.1f} s, {ours.cpu:.0f} s of CPU, peak {ours.peak_bytes / GIB:.1f} GiB,")
    say(f" {size / GIB:.1f} GiB of files\n")
    say(f"ratio: {ours.wall / peer:.2f} of time, {ours.cpu / bare.cpu:.2f} of CPU\n")
    start = time.perf_counter()
    releases.finish_build(home, build)
    say(f"gate and manifest: {time.perf_counter() - start:.1f} s\n")
    if not chosen.keep:
        shutil.rmtree(chosen.folder)


if __name__ == "__main__":
    main()
