"""How many of a simulated network's planted faults were found.

Here: comparing what the pipeline said with the simulator's `truth.json`. Not here: the pipeline, which never reads that
file. A fault counts as found when the finding or refusal that it should cause names the very row or series.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ingestion.deliveries import find_deliveries, list_entries
from warehouse import lake
from warehouse.gateway import query
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

SOUND = "sound"
WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Score:
    """Planted and found, per kind; for `sound` scans `found` counts those flagged all the same."""

    kind: str
    planted: int
    found: int
    missed: tuple[str, ...]
    """Where the missed ones lie, in the simulator's words; for `sound`, the flagged ones."""


@dataclass(frozen=True)
class _Delivery:
    key: str
    numbers: dict[str, int]
    """Path below the delivery's folder -> file number."""


def score(home: Home, truth_file: Path) -> list[Score]:
    """Compare a simulated home's findings with its truth.

    Returns
    -------
    One score per kind of planted fault and one for sound scans, in order of the kinds' names.
    """
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    deliveries = _deliveries(home)
    hits: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for scan in truth["scans"]:
        where = f"{scan['site']}/{scan['delivery']}/{scan['folder']}"
        hits[scan["kind"]].append((_scan_is_found(home, deliveries, scan), where))
    for fault in truth["registry_faults"]:
        where = f"{fault['site']}/{fault['delivery']}/{fault['file']} row {fault['row']}"
        hits[fault["kind"]].append((_fault_is_found(home, deliveries, fault), where))
    return [
        Score(
            kind,
            len(results),
            sum(found for found, _ in results),
            tuple(where for found, where in results if found == (kind == SOUND)),
        )
        for kind, results in sorted(hits.items())
    ]


def _deliveries(home: Home) -> dict[tuple[str, str], _Delivery]:
    network, pseudonyms = home.network(), Pseudonyms(home)
    found = {}
    for site in network.sites:
        for delivery in find_deliveries(home, network, site.code):
            entries = list_entries(home, pseudonyms, site.code, delivery.folder) or []
            numbers = {entry.name.as_posix(): number for number, entry in enumerate(entries, 1)}
            found[site.code, delivery.folder.name] = _Delivery(delivery.delivery_key or "", numbers)
    return found


def _live(home: Home, site: str) -> pl.DataFrame:
    findings = lake.read_table(home, "raw_qa__finding", site)
    return findings.filter(~findings["state"].is_in(["resolved"]))


def _scan_is_found(home: Home, deliveries: dict[tuple[str, str], _Delivery], scan: dict[str, Any]) -> bool:
    delivery = deliveries[scan["site"], scan["delivery"]]
    prefix = scan["folder"].rstrip("/") + "/"
    numbers = [number for name, number in delivery.numbers.items() if name.startswith(prefix)]
    files = lake.read_table(home, "raw_lake__file", scan["site"]).filter(
        (pl.col("delivery_key") == delivery.key) & pl.col("file_number").is_in(numbers)
    )
    keys = files["series_key"].drop_nulls().unique().to_list()
    if scan["kind"] == SOUND:
        verdicts = lake.read_table(home, "raw_qa__verdict", scan["site"]).filter(pl.col("series_key").is_in(keys))
        return verdicts.filter(pl.col("verdict") == "pass").height != max(1, len(keys))
    rules = _live(home, scan["site"]).filter(pl.col("entity_key").is_in(keys))["rule_id"].to_list()
    return bool(set(rules) & set(scan["expected_rules"]))


def _fault_is_found(home: Home, deliveries: dict[tuple[str, str], _Delivery], fault: dict[str, Any]) -> bool:
    site, row = fault["site"], fault["row"]
    delivery = deliveries[site, fault["delivery"]]
    number = delivery.numbers[fault["file"]]
    refusals = lake.read_table(home, "raw_registry__refusal", site).filter(
        (pl.col("delivery_key") == delivery.key) & (pl.col("file_number") == number) & (pl.col("source_row") == row)
    )
    if fault["expected"] in refusals["reason_code"].to_list():
        return True
    rows = lake.read_table(home, f"raw_registry__{fault['entity']}", site).filter(
        (pl.col("delivery_key") == delivery.key) & (pl.col("file_number") == number) & (pl.col("source_row") == row)
    )
    subjects = rows["subject_key"].to_list()
    if fault["kind"] == WITHDRAWN:
        return bool(subjects) and not any(_is_registered(home, subject) for subject in subjects)
    entities = rows["row_key"].to_list() + subjects
    found = _live(home, site).filter(pl.col("entity_key").is_in(entities) & (pl.col("rule_id") == fault["expected"]))
    return not found.is_empty()


def _is_registered(home: Home, subject: str) -> bool:
    with query(
        home, f"select count(*) as n from dim_subject where subject_key = '{subject}'", tier="registered", user="demo"
    ) as answer:
        return bool(answer.rows[0][0])
