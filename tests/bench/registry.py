"""How quickly registry rows are judged, beside pandera and one DuckDB scan of the same rules in the same run.

    python -m tests.bench.registry [ROWS]

Here: one table of visits, ten rules of the dictionary, a few faults. Ours is all that a site's run does with them:
every rule, Great Expectations, results and findings, written to the lake. The peers only count the breaks.
Not here: starting Python and importing the libraries.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from qa import findings as finding_store
from qa.variables import validate_frames
from warehouse import lake
from warehouse.dictionary import Dictionary, load_dictionary
from warehouse.home import Home
from warehouse.tables import schema_of

RULES = ("REQ_visit_visit_date", "R01", "R02_pyramidal", "R02_cerebellar", "R02_visual", "R04a")
MORE_RULES = ("R05_future_visit", "R12_t25fw", "R12_sdmt", "KEY_visit")
RUNS = 5
FAULTS = 20
"""Rows with a fault, in each million."""
TODAY = date(2026, 11, 24)


def ten_rules() -> Dictionary:
    """The dictionary with ten rules over visits and nothing else."""
    visit = load_dictionary().entities["visit"]
    wanted = {*RULES, *MORE_RULES}
    variables = [
        v if v.rule in wanted else v.model_copy(update={"rule": None, "minimum": None, "maximum": None, "step": None})
        for v in visit.variables
    ]
    kept = visit.model_copy(
        update={"variables": variables, "rules": [rule for rule in visit.rules if rule.id in wanted]}
    )
    return Dictionary(version="bench", entities={"visit": kept})


def visits(count: int) -> pl.DataFrame:
    """Sound visits of a tenth as many patients, with `FAULTS` impossible EDSS scores in each million."""
    rng = np.random.default_rng(4)
    number = np.arange(count)
    edss = rng.integers(2, 14, count) / 2
    edss[rng.choice(count, max(1, FAULTS * count // 1_000_000), replace=False)] = 0.5
    frame = pl.DataFrame(
        {
            "row_key": pl.Series(number).cast(pl.String),
            "subject_key": pl.select(pl.format("sbj_{}", pl.Series(number // 10)))[:, 0],
            "visit_date": pl.Series(np.datetime64("2012-01-02") + (number % 10) * 180 + rng.integers(0, 90, count)),
            "edss": edss,
            "fs_pyramidal": rng.integers(0, 6, count),
            "fs_cerebellar": rng.integers(0, 5, count),
            "fs_visual": rng.integers(0, 6, count),
            "fs_ambulation": np.zeros(count, dtype=np.int64),
            "ambulation_scale": ["neurostatus"] * count,
            "t25fw_s": rng.uniform(3, 60, count),
            "sdmt_score": rng.integers(10, 90, count),
        }
    ).with_columns(
        site_code=pl.lit("BENCH"), delivery_key=pl.lit("dlv_1"), file_number=1, source_row=pl.int_range(count)
    )
    schema = schema_of("raw_registry__visit")
    empty = pl.DataFrame(schema=schema)
    return pl.concat([empty, frame.cast({n: schema[n] for n in frame.columns})], how="diagonal").select(list(schema))


def ours(frame: pl.DataFrame, dictionary: Dictionary, home: Home) -> int:
    results, refused, found = validate_frames({"visit": frame}, "BENCH", dictionary, TODAY)
    lake.write_part(home, "raw_qa__rule_result", results, "BENCH")
    lake.write_part(home, "raw_qa__refused_row", refused, "BENCH")
    now = pl.Series([TODAY]).cast(pl.Datetime("us", "UTC"))[0]
    finding_store.upsert(home, "BENCH", found, now=now, scope=None)
    return int(results["violated_count"].sum())


SCAN = """
    select count(*) filter (visit_date is null)
        + count(*) filter (edss < 0 or edss > 10 or edss * 2 != round(edss * 2) or edss = 0.5)
        + count(*) filter (fs_pyramidal not between 0 and 6) + count(*) filter (fs_cerebellar not between 0 and 5)
        + count(*) filter (fs_visual not between 0 and 6) + count(*) filter (visit_date > date '2026-11-24')
        + count(*) filter (ambulation_scale = 'neurostatus' and fs_ambulation >= 3 and edss < 5)
        + count(*) filter (t25fw_s not between 0 and 180) + count(*) filter (sdmt_score not between 0 and 110)
        + count(*) - count(distinct (subject_key, visit_date))
    from visit
"""


def duckdb_scan(frame: pl.DataFrame) -> int:
    """One scan that counts the breaks of the same ten rules."""
    connection = duckdb.connect()
    connection.register("visit", frame.to_arrow())
    return int(connection.execute(SCAN).fetchall()[0][0])


def pandera_schema() -> Any:
    """The same ten rules as pandera says them, on polars."""
    import pandera.polars as pa

    between = pa.Check.in_range
    scores = {"fs_pyramidal": 6, "fs_cerebellar": 5, "fs_visual": 6, "sdmt_score": 110}
    edss = [
        between(0, 10),
        pa.Check(lambda d: d.lazyframe.select((pl.col(d.key) * 2).floor() == pl.col(d.key) * 2)),
        pa.Check.ne(0.5),
    ]
    walking = pa.Check(
        lambda d: d.lazyframe.select(
            ~((pl.col("ambulation_scale") == "neurostatus") & (pl.col("fs_ambulation") >= 3) & (pl.col("edss") < 5))
        )
    )
    return pa.DataFrameSchema(
        {
            "visit_date": pa.Column(pl.Date, pa.Check.le(TODAY), nullable=False),
            "edss": pa.Column(float, edss, nullable=True),
            "t25fw_s": pa.Column(float, between(0, 180), nullable=True),
            **{name: pa.Column(int, between(0, most), nullable=True) for name, most in scores.items()},
        },
        checks=[walking],
        unique=["subject_key", "visit_date"],
    )


def pandera_check(frame: pl.DataFrame, schema: Any) -> int:
    """All failures, as pandera reports them with `lazy`."""
    import pandera.errors

    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return int(error.failure_cases.height)
    return 0


def timed(work: Callable[[], int]) -> tuple[float, float, int]:
    """(median seconds, median processor seconds, breaks counted) of `RUNS` runs after one that is not counted."""
    counted = work()
    pairs = []
    for _ in range(RUNS):
        start, processor = time.perf_counter(), time.process_time()
        work()
        pairs.append((time.perf_counter() - start, time.process_time() - processor))
    seconds, of_processor = (statistics.median(column) for column in zip(*pairs, strict=True))
    return seconds, of_processor, counted


def main() -> None:
    """Print the table's rows."""
    count = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    frame, dictionary, schema = visits(count), ten_rules(), pandera_schema()
    assert len(dictionary.rules) == 10, [rule.id for _, rule in dictionary.rules]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for name, work in (
            ("ours, results and findings written", lambda: ours(frame, dictionary, home)),
            ("pandera on polars", lambda: pandera_check(frame, schema)),
            ("DuckDB, one scan", lambda: duckdb_scan(frame)),
        ):
            middle, processor, counted = timed(work)
            sys.stdout.write(
                f"| {name} | {count:,} rows, 10 rules | {middle:.2f} s | {processor:.2f} s | {counted} |\n"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    sys.stdout.write(f"peak memory {peak:.1f} GB\n")


if __name__ == "__main__":
    main()
