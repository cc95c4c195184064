"""The tables of a tier as an export needs them.

Here: asking the gateway for whole tables. Not here: any format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl

from warehouse import gateway, lake, releases
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.policy import Table, load_policy
from warehouse.workers import Pool

SECONDS = 600.0


@dataclass(frozen=True)
class TierFile:
    """One file of one release, read table by table through the gateway. Made by `open_tier`."""

    home: Home
    tier: gateway.Tier
    user: str
    release: str | None
    pool: Pool
    site: str | None = None
    project: str | None = None

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table.

        Raises
        ------
        QueryRefused, ReleaseError
            There is no such file or table, or it cannot be read in ten minutes.
        """
        return cast(pl.DataFrame, pl.from_arrow(self._ask(f"select * from {table}").table()))

    def _ask(self, sql: str) -> gateway.Answer:
        return gateway.query(
            self.home,
            sql,
            tier=self.tier,
            site=self.site,
            project=self.project,
            release=self.release,
            user=self.user,
            seconds=SECONDS,
            pool=self.pool,
        )

    @property
    def tables(self) -> dict[str, Table]:
        """What the policy puts into the file, by table."""
        return load_policy().tiers[self.tier]

    @property
    def names(self) -> list[str]:
        """Tables that the file really has: a project without the scope of imaging has none of the images."""
        there = {str(row[0]) for row in self._ask("show tables").rows}
        return [name for name in self.tables if name in there]


@contextmanager
def open_tier(
    home: Home,
    tier: gateway.Tier,
    user: str,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
) -> Iterator[TierFile]:
    """A tier's file, asked by one process; all tables of one release, even when another is published meanwhile."""
    pool = Pool(per_file=1, total=1)
    try:
        yield TierFile(home, tier, user, release or releases.current_version(home), pool, site, project)
    finally:
        pool.close()


def write_new(target: Path, write: Callable[[Path], None]) -> None:
    """Make a file that is not there yet, through a temporary name.

    Raises
    ------
    RanvierError
        It is there already.
    """
    if target.exists():
        raise RanvierError(f"{target} is there already; name another, or remove it first")
    with lake.temporary(target) as draft:
        write(draft)


def write_new_text(target: Path, text: str, encoding: str = "utf-8") -> None:
    """`write_new` for a text that is ready."""

    def write(draft: Path) -> None:
        draft.write_bytes(text.encode(encoding))

    write_new(target, write)
