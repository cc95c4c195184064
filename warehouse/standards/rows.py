"""The tables of a tier as an export needs them.

Here: asking the gateway for whole tables. Not here: any format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl

from warehouse import gateway
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.policy import Column, Table, load_policy

SECONDS = 600.0


@dataclass(frozen=True)
class TierFile:
    """One file of a release, read table by table through the gateway."""

    home: Home
    tier: gateway.Tier
    user: str
    site: str | None = None
    project: str | None = None
    release: str | None = None

    def read(self, table: str) -> tuple[pl.DataFrame, str]:
        """All rows of a table, and the version of the release they stand in.

        Raises
        ------
        QueryRefused, ReleaseError
            There is no such file or table, or it cannot be read in ten minutes.
        """
        answer = gateway.query(
            self.home,
            f"select * from {table}",
            tier=self.tier,
            site=self.site,
            project=self.project,
            release=self.release,
            user=self.user,
            seconds=SECONDS,
        )
        return cast(pl.DataFrame, pl.from_arrow(answer.table())), answer.release

    @property
    def tables(self) -> dict[str, Table]:
        """What the policy puts into the file, by table."""
        return load_policy().tiers[self.tier]

    @property
    def names(self) -> list[str]:
        """Tables that the file really has: a project without the scope of imaging has none of the images."""
        answer = gateway.query(
            self.home,
            "show tables",
            tier=self.tier,
            site=self.site,
            project=self.project,
            release=self.release,
            user=self.user,
        )
        there = {str(row[0]) for row in answer.rows}
        return [name for name in self.tables if name in there]

    def column(self, table: str, name: str) -> Column:
        return next(column for column in self.tables[table].columns if column.name == name)


def write_new(target: Path, write: Callable[[Path], None]) -> None:
    """Make a file that is not there yet, through a temporary name.

    Raises
    ------
    RanvierError
        It is there already.
    """
    if target.exists():
        raise RanvierError(f"{target} is there already; name another, or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.tmp")
    try:
        write(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
