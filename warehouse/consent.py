"""Who has withdrawn, by what the lake holds now.

Here: the rule of `dbt_project/models/core/core_consent.sql` for one question, asked between builds. Not here: who is in
a release (dbt), and what is done about a withdrawal (`warehouse.releases`, `warehouse.reissue`).
"""

from __future__ import annotations

import polars as pl

from warehouse import lake
from warehouse.home import Home


def withdrawn_subjects(home: Home) -> frozenset[str]:
    """Keys of the subjects whose newest consent rows hold a withdrawal.

    As in dbt: of the accepted deliveries that are not replaced, the newest that says anything about a subject decides,
    refused rows included, and one row with a withdrawal date is enough.
    """
    accepted = lake.read_table(home, "raw_lake__accepted")
    replaced = accepted.select("site_code", pl.col("supersedes_delivery_key").alias("delivery_key")).drop_nulls()
    used = accepted.join(replaced, on=["site_code", "delivery_key"], how="anti")
    consent = lake.read_table(home, "raw_registry__consent").drop_nulls("subject_key")
    rows = consent.join(used.select("site_code", "delivery_key", "sequence_number"), on=["site_code", "delivery_key"])
    newest = rows.filter(pl.col("sequence_number") == pl.col("sequence_number").max().over("subject_key"))
    return frozenset(newest.filter(pl.col("withdrawal_date").is_not_null())["subject_key"])
