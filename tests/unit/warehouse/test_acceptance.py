"""Which deliveries are accepted, in which order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from warehouse import lake
from warehouse.acceptance import accept
from warehouse.errors import DeliveryError
from warehouse.home import Home
from warehouse.tables import schema_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def receive(home: Home, key: str, status: str = "read") -> None:
    schema = schema_of("raw_lake__delivery")
    row = dict.fromkeys(schema) | {
        "site_code": "AA",
        "delivery_key": key,
        "status": status,
    }
    lake.write_part(home, "raw_lake__delivery", pl.DataFrame([row], schema=schema), "AA", key)


def accepted(home: Home) -> list[tuple[str, int, str | None]]:
    table = lake.read_table(home, "raw_lake__accepted", "AA")
    return table.select("delivery_key", "sequence_number", "supersedes_delivery_key").rows()


def test_later_deliveries_come_later_and_again_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for key in ("d1", "d2", "d3"):
        receive(home, key)
    accept(home, "AA", ["d1"], now=NOW)
    accept(home, "AA", ["d1", "d2", "d2"], now=NOW)
    accept(home, "AA", ["d1", "d2"], now=NOW)
    accept(home, "AA", ["d3"], now=NOW, supersedes={"d3": "d2"})
    assert accepted(home) == [("d1", 1, None), ("d2", 2, None), ("d3", 3, "d2")]


def test_replaced_delivery_that_comes_back_replaces_its_successor(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    receive(home, "d1")
    receive(home, "d2")
    accept(home, "AA", ["d1"], now=NOW)
    accept(home, "AA", ["d2"], now=NOW, supersedes={"d2": "d1"})
    accept(home, "AA", ["d1"], now=NOW)
    assert accepted(home) == [("d1", 1, None), ("d2", 2, "d1")]
    accept(home, "AA", ["d1"], now=NOW, supersedes={"d1": "d2"})
    assert accepted(home) == [("d2", 2, None), ("d1", 3, "d2")]


def test_unreadable_is_left_out_and_unknown_is_an_error(tmp_path: Path) -> None:
    home = Home(tmp_path)
    receive(home, "d1", "unreadable")
    accept(home, "AA", ["d1"], now=NOW)
    assert accepted(home) == []
    with pytest.raises(DeliveryError, match="never received"):
        accept(home, "AA", ["d9"], now=NOW)
