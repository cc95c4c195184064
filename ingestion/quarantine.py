"""What was refused, from all of the lake, as one list for a person.

Here: refused deliveries, files, registry rows and series with their reasons. Not here: rows that a rule refuses
(`qa.findings`). Refused files stay where they were sent, in `landing/`; nothing is moved or deleted.
"""

from __future__ import annotations

import polars as pl

from warehouse.home import Home
from warehouse.lake import read_table

SCHEMA = {
    "site_code": pl.String,
    "delivery_key": pl.String,
    "what": pl.String,  # delivery | file | row | series
    "file_number": pl.Int32,
    "where_found": pl.String,
    "reason_code": pl.String,
    "reason": pl.String,
}


def list_quarantine(home: Home, site_code: str | None = None) -> pl.DataFrame:
    """Everything refused on receipt, of one site or all, ordered by site, delivery and file.

    `where_found` names it in the site's own terms (masked file name, table and row, files of the series) and never by
    an identifier.
    """
    deliveries = read_table(home, "raw_lake__delivery", site_code).filter(pl.col("status") == "unreadable")
    files = read_table(home, "raw_lake__file", site_code).filter(
        (pl.col("status") == "refused") & pl.col("series_key").is_null()
    )
    rows = read_table(home, "raw_registry__refusal", site_code)
    series = read_table(home, "raw_imaging__series", site_code).filter(pl.col("status") == "refused")
    numbers = pl.concat_str(pl.lit("files "), pl.col("first_file_number"), pl.lit("-"), pl.col("last_file_number"))
    row_place = pl.concat_str("entity", pl.lit(" table, row "), pl.col("source_row"))
    column = (
        pl.when(pl.col("variable").is_not_null()).then(pl.concat_str(pl.lit(", "), "variable")).otherwise(pl.lit(""))
    )
    parts = [
        _part(deliveries, "delivery", pl.lit(None), pl.col("display_name")),
        _part(files, "file", pl.col("file_number"), pl.col("display_name")),
        _part(rows, "row", pl.col("file_number"), pl.concat_str(row_place, column)),
        _part(series, "series", pl.col("first_file_number"), pl.concat_str("contrast", pl.lit(", "), numbers)),
    ]
    return pl.concat(parts).sort("site_code", "delivery_key", "file_number", "where_found", nulls_last=False)


def _part(frame: pl.DataFrame, what: str, file_number: pl.Expr, where_found: pl.Expr) -> pl.DataFrame:
    found = frame.with_columns(
        pl.lit(what).alias("what"),
        file_number.cast(pl.Int32).alias("file_number"),
        where_found.alias("where_found"),
    )
    return found.select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()])
