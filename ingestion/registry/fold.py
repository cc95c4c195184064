"""Records told in several rows, sheets or files become one row.

Here: putting together rows of the same patient and key, and refusing those that contradict each other. Not here: which
tables are told so (`fold` and `long` in a source profile), or reading a row (`convert`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ingestion.profile import Profile
from ingestion.registry.reasons import CONFLICTING
from warehouse.dictionary import Entity
from warehouse.tables import schema_of

DATED = "_dated"
"""Beside the columns of the lake: the day by which `latest` chooses."""
PROVENANCE = ("site_code", "delivery_key", "file_number", "source_row", "row_key")


@dataclass(frozen=True)
class Folded:
    """Rows of the lake, refusals, and how many rows became one with an earlier one: together all that went in."""

    rows: pl.DataFrame
    refused: pl.DataFrame
    folded_count: int


def combinations(profile: Profile, entity: str) -> dict[str, str]:
    """Variable -> how several values of one record are combined, where the profile says so."""
    return {
        column.variable: column.combine
        for table in profile.entities[entity]
        for _, column in table.all_columns
        if column.combine is not None
    }


def fold(rows: pl.DataFrame, entity: Entity, combine: Mapping[str, str]) -> Folded:
    """Make one row of all rows of the same patient and key.

    Parameters
    ----------
    rows
        Rows of the lake, of one entity and delivery, and the day of each in `DATED`.
    combine
        Variable -> `mean`, `first`, `any` or `latest` where several values are expected. For every other variable the
        first value given in the order of files and rows holds, and a later row with another one is refused.

    Returns
    -------
    Folded
        A folded row carries the provenance of its first row. Rows that lack a part of the key which must be given
        stay as they are.
    """
    keys = ["subject_key", *entity.key]
    others = [variable.name for variable in entity.stored_variables if variable.name not in entity.key]
    single = [name for name in others if name not in combine]
    ordered = rows.sort("file_number", "source_row")
    needed = ["subject_key", *(name for name in entity.key if entity.variable(name).required)]
    is_keyed = pl.all_horizontal(pl.col(name).is_not_null() for name in needed)
    keyed, apart = ordered.filter(is_keyed), ordered.filter(~is_keyed).drop(DATED)
    clashes = [
        pl.when(pl.col(name) != pl.col(name).drop_nulls().first().over(keys)).then(pl.lit(name)) for name in single
    ]
    judged = keyed.with_columns(pl.coalesce([*clashes, pl.lit(None, dtype=pl.String)]).alias("_clash"))
    agreeing = judged.filter(pl.col("_clash").is_null())
    whole = agreeing.group_by(keys, maintain_order=True).agg(
        pl.col(*PROVENANCE).first(),
        *(pl.col(name).drop_nulls().first() for name in single),
        *(_combined(name, combine[name]) for name in others if name in combine),
    )
    refused = judged.filter(pl.col("_clash").is_not_null())
    return Folded(
        pl.concat([whole.select(apart.columns), apart]),
        _refusals(refused, entity),
        agreeing.height - whole.height,
    )


def _combined(name: str, how: str) -> pl.Expr:
    column = pl.col(name)
    if how == "mean":
        return column.mean()
    if how == "latest":
        given = column.is_not_null()
        return column.filter(given).sort_by(pl.col(DATED).filter(given), nulls_last=False, maintain_order=True).last()
    return column.max() if how == "any" else column.drop_nulls().first()


def _refusals(rows: pl.DataFrame, entity: Entity) -> pl.DataFrame:
    record = " and ".join(["patient", *entity.key])
    reason = pl.format(
        f"An earlier row of the same {record} gives another value for {{}}; correct the wrong one and send both again.",
        "_clash",
    )
    found = rows.with_columns(
        pl.lit(entity.name).alias("entity"),
        pl.col("_clash").alias("variable"),
        pl.lit(CONFLICTING).alias("reason_code"),
        reason.alias("reason"),
    )
    return found.select([pl.col(name).cast(kind) for name, kind in schema_of("raw_registry__refusal").items()])
