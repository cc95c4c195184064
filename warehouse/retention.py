"""Retention: how many releases a home keeps.

Here: which ones go, and their removal. Not here: stripping subjects from those that stay (`warehouse.reissue`).
"""

from __future__ import annotations

from warehouse import releases
from warehouse.errors import ReleaseError
from warehouse.home import Home


def surplus(home: Home, keep: int) -> list[str]:
    """Versions that are more than `keep`, oldest first; never the current one, nor one that is newer than it.

    A newer one than the current waits to be published, or was gone back from; neither is old.
    """
    order = releases.by_build(home)
    current = releases.current_version(home)
    before = order[: order.index(current)] if current in order else order[:-1]
    return before[: max(0, len(order) - keep)]


def prune(home: Home, *, keep: int | None = None, reason: str = "", by: str | None = None) -> list[str]:
    """Remove the releases that are more than the home keeps. Returns their versions.

    Parameters
    ----------
    keep
        How many stay; `releases.keep` of network.yaml by default.

    Raises
    ------
    ReleaseError
        Nothing says how many to keep, or less than one.
    """
    kept = keep if keep is not None else home.network().releases.keep
    if kept is None:
        raise ReleaseError(
            "Nothing says how many releases to keep; set releases.keep in network.yaml, or give --keep N"
        )
    if kept < 1:
        raise ReleaseError("At least one release is kept; give --keep 1 or more")
    with releases.changing(home):
        releases.clean(home)
        gone = surplus(home, kept)
        for version in gone:
            releases.decide(home, "prune", version, by=by, reason=reason or f"{kept} releases are kept")
            releases.destroy(home.releases / version)
    return gone
