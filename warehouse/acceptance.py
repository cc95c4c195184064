"""The data manager's yes, as a row: which deliveries releases may use.

Here: writing `raw_lake__accepted`. Not here: what is read from it (dbt), or judging a delivery's content (qa).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from warehouse import lake
from warehouse.errors import DeliveryError
from warehouse.home import Home
from warehouse.tables import schema_of


def accept(
    home: Home,
    site_code: str,
    delivery_keys: Sequence[str],
    *,
    now: datetime,
    supersedes: Mapping[str, str] | None = None,
) -> None:
    """Add deliveries to those that releases use, in the order given; later ones win over earlier ones.

    Parameters
    ----------
    delivery_keys
        Deliveries that were received. One that could not be read is left out, so the site keeps what was accepted
        before; one that is accepted already keeps its place.
    now
        Time of the decision, with a time zone.
    supersedes
        New delivery -> delivery that it replaces as a whole, for a folder that was changed after receipt. The replaced
        one drops out of releases.

    Raises
    ------
    DeliveryError
        A delivery was never received.
    """
    received = lake.read_table(home, "raw_lake__delivery", site_code)
    status = dict(received.select("delivery_key", "status").iter_rows())
    table = "raw_lake__accepted"
    before = lake.read_table(home, table, site_code)
    places = dict(before.select("delivery_key", "sequence_number").iter_rows())
    replaced = dict(supersedes or {})
    dropped = set(before["supersedes_delivery_key"].drop_nulls())
    last = max(places.values(), default=0)
    rows = []
    for key in dict.fromkeys(delivery_keys):
        if key not in status:
            raise DeliveryError(f"Delivery {key} of {site_code} was never received, so it cannot be accepted")
        comes_back = key in dropped and key in replaced
        if status[key] == "unreadable" or (key in places and not comes_back):
            continue
        last += 1
        rows.append((site_code, key, now, last, replaced.get(key)))
    if not rows:
        return
    added = pl.DataFrame(rows, schema=schema_of(table), orient="row")
    again = set(added["delivery_key"])
    kept = before.filter(~pl.col("delivery_key").is_in(list(again)))
    # A delivery that comes back is no longer replaced by the one it now replaces.
    kept = kept.with_columns(
        pl.when(pl.col("supersedes_delivery_key").is_in(list(again)))
        .then(None)
        .otherwise(pl.col("supersedes_delivery_key"))
        .alias("supersedes_delivery_key")
    )
    lake.write_part(home, table, pl.concat([kept, added]).sort("sequence_number"), site_code)
