"""`ranvier check` and `ranvier measure`: what a site can know before it sends anything.

Here: the centre's own reading and judging on a folder, in a throw-away home. Not here: Dagster, releases, reports: a
site's laptop has none of them. Only here are files named as they lie on disk: nobody else sees the answer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ingestion.deliveries import delivery_at, list_entries
from ingestion.receive import receive
from qa import images, variables
from warehouse import lake
from warehouse.errors import DeliveryError
from warehouse.home import Home, Network, Site
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import LAKE_TABLES
from warehouse.work import Progress, silent

SITE = "CHECK"


@dataclass(frozen=True)
class Problem:
    """One thing to correct before sending."""

    where: str
    rule: str
    severity: str
    message: str
    action: str


@dataclass(frozen=True)
class Checked:
    """What a folder holds and what is wrong with it."""

    files_count: int
    files_refused: int
    rows_count: int
    rows_refused: int
    series: list[dict[str, Any]]
    """Contrast, files, verdict and reasons of each series."""
    problems: list[Problem]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def _throwaway(profile: str) -> Iterator[tuple[Home, Network]]:
    with tempfile.TemporaryDirectory(prefix="ranvier-check-") as folder:
        home = Home(Path(folder).resolve())
        for part in home.folders():
            part.mkdir(parents=True, exist_ok=True)
        yield home, Network(sites=[Site(code=SITE, profile=profile)], quiet_seconds=0)


def _received(home: Home, network: Network, folder: Path, progress: Progress) -> tuple[str, list[str]]:
    if not folder.is_dir():
        raise DeliveryError(f"{folder} is not a folder; give the folder you want to send")
    delivery = delivery_at(home, network, SITE, folder.resolve())
    receive(home, network, delivery, progress=progress)
    row = lake.read_table(home, "raw_lake__delivery", SITE).row(0, named=True)
    if row["status"] != "read":
        raise DeliveryError(f"{folder} cannot be read as a delivery: {row['reason']}")
    names = [entry.name.as_posix() for entry in list_entries(home, Pseudonyms(home), SITE, folder.resolve()) or []]
    return row["delivery_key"], names


def check_folder(folder: Path, *, profile: str = "own_names", progress: Progress = silent) -> Checked:
    """Read and judge a folder as the centre would.

    Raises
    ------
    DeliveryError
        The folder cannot be read as a delivery at all.
    HomeError
        There is no such profile.
    """
    with _throwaway(profile) as (home, network):
        key, names = _received(home, network, folder, progress)
        findings, _ = variables.validate_site(home, SITE, [key])
        images.measure_site(home, network, SITE, [key], progress=progress)
        findings += images.judge_site(home, network, SITE, [key], now=datetime.now(UTC))
        files = lake.read_table(home, "raw_lake__file", SITE)
        unread = lake.read_table(home, "raw_registry__refusal", SITE)
        broken = lake.read_table(home, "raw_qa__refused_row", SITE)["row_key"].n_unique()
        registry = [table for table in LAKE_TABLES if table.startswith("raw_registry__")]
        problems = [
            *_refused_files(files, names),
            *_refused_rows(unread, names),
            *(Problem(f.where_found, f.rule_id, f.severity, f.message, f.action) for f in findings),
        ]
        return Checked(
            files_count=files.height,
            files_refused=files.filter(pl.col("status") == "refused").height,
            rows_count=sum(lake.read_table(home, table, SITE).height for table in registry),
            rows_refused=unread.height + broken,
            series=_series(home),
            problems=problems,
        )


def _name(names: list[str], number: int) -> str:
    return names[number - 1] if 0 < number <= len(names) else f"file {number}"


def _refused_files(files: pl.DataFrame, names: list[str]) -> Iterator[Problem]:
    for row in files.filter(pl.col("status") == "refused").iter_rows(named=True):
        where = _name(names, row["file_number"])
        yield Problem(where, row["reason_code"], "error", row["reason"], "Correct the file or leave it out.")


def _refused_rows(unread: pl.DataFrame, names: list[str]) -> Iterator[Problem]:
    for row in unread.iter_rows(named=True):
        where = f"{_name(names, row['file_number'])} row {row['source_row']}"
        yield Problem(where, row["reason_code"], "error", row["reason"], f"Correct {row['variable']} in this row.")


def _series(home: Home) -> list[dict[str, Any]]:
    series = lake.read_table(home, "raw_imaging__series", SITE)
    verdicts = lake.read_table(home, "raw_qa__verdict", SITE)
    joined = series.join(verdicts.select("series_key", "verdict", "reasons"), on="series_key", how="left")
    return [
        {
            "where": images.where_found(row),
            "contrast": row["contrast"],
            "status": row["status"],
            "verdict": row["verdict"],
            "reasons": row["reasons"] or ([row["reason"]] if row["reason"] else []),
        }
        for row in joined.iter_rows(named=True)
    ]


def measure_path(path: Path, *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Measure each series below a path: a DICOM folder, an archive or a NIfTI file.

    Returns
    -------
    One entry per series with its measures, each with a value and unit or a reason.

    Raises
    ------
    DeliveryError
        Nothing there can be read as an image.
    """
    with _throwaway("own_names") as (home, network), tempfile.TemporaryDirectory(prefix="ranvier-check-") as beside:
        folder = path
        if path.is_file():
            folder = Path(beside) / "series"
            folder.mkdir()
            shutil.copyfile(path, folder / path.name)
        key, _ = _received(home, network, folder, progress)
        images.measure_site(home, network, SITE, [key], progress=progress)
        measures = lake.read_table(home, "raw_qa__measure", SITE)
        return [
            {
                "series": images.where_found(row),
                "contrast": row["contrast"],
                "bids_path": row["bids_path"],
                "measures": measures.filter(pl.col("series_key") == row["series_key"])
                .select("measure", "value", "unit", "direction", "reason_code", "reason", "method_version")
                .to_dicts(),
            }
            for row in lake.read_table(home, "raw_imaging__series", SITE).iter_rows(named=True)
        ]
