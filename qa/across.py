"""Rules that are SQL: over one row, over other tables, over one subject in time.

Here: what is in force of a site's rows, and DuckDB over it, in memory. Not here: the rules (`warehouse/dictionary/`),
or when they are asked (`qa.judge`). DuckDB is used at the site step and not dbt: a site hears of these rules per
delivery, before a release is built, and on its own laptop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import duckdb
import polars as pl

from qa.expectations import Frames, Undetermined
from warehouse.dictionary import FOLDER, Entity, Rule, dmts

MACROS = FOLDER / "macros.sql"
CANNOT = "the rule could not be evaluated on these columns"
"""DuckDB's own message can quote cell values, so it is not repeated."""


def is_in_force(frame: pl.DataFrame, entity: Entity) -> pl.Series:
    """True for rows that no later delivery replaces: those of the last delivery that holds their key.

    Parameters
    ----------
    frame
        Rows of one registry table of one site, later deliveries last. Without `delivery_key`, all of one delivery.
    """
    key = [name for name in ["subject_key", *entity.key] if name in frame.columns]
    if not key or "delivery_key" not in frame.columns or frame["delivery_key"].n_unique() <= 1:
        return pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    last = pl.col("delivery_key").last().over(key)
    return frame.select((pl.col("delivery_key") == last).fill_null(True))["delivery_key"]


@contextmanager
def tables(frames: Mapping[str, pl.DataFrame], today: date) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory with these tables, the dictionary's macros, and `judged_on()` as the day of judging."""
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"create macro judged_on() as date '{today.isoformat()}'")
        connection.execute(MACROS.read_text(encoding="utf-8"))
        connection.register("reference_dmt", dmts().to_arrow())
        for name, frame in frames.items():
            connection.register(name, frame.to_arrow())
        yield connection
    finally:
        connection.close()


def _answer(connection: duckdb.DuckDBPyConnection, statement: str) -> pl.DataFrame:
    try:
        return connection.execute(statement).pl()
    except duckdb.Error as error:
        raise Undetermined(CANNOT) from error


def expression_answers(rules: list[Rule], frame: pl.DataFrame, today: date) -> dict[str, pl.Series | Undetermined]:
    """Answer per row of each `expression` rule: true, false, or null where it does not apply; or why there is none."""
    found: dict[str, pl.Series | Undetermined] = {}
    if not rules:
        return found
    with tables({"judged": frame}, today) as connection:
        for rule in rules:
            try:
                found[rule.id] = _answer(connection, f"select cast(({rule.sql}) as boolean) as holds from judged")[
                    "holds"
                ]
            except Undetermined as reason:
                found[rule.id] = reason
    return found


def query_answer(connection: duckdb.DuckDBPyConnection, rule: Rule, frame: pl.DataFrame, frames: Frames) -> pl.Series:
    """Answer per row of `frame` of a `query` rule; null where the rule says nothing about a row.

    Raises
    ------
    Undetermined
        A table that the rule compares with was not given, or lacks a column.
    """
    if absent := [name for name in rule.tables if name not in frames]:
        raise Undetermined(f"no {' or '.join(absent)} table was given to compare with")
    answers = _answer(connection, f"select row_key, cast(holds as boolean) as holds from ({rule.sql})")
    # One row may be compared with several others: it holds when it holds against each of them.
    answers = answers.group_by("row_key").agg(pl.col("holds").all(ignore_nulls=False))
    return frame.select("row_key").join(answers, on="row_key", how="left", maintain_order="left")["holds"]
