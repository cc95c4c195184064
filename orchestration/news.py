"""Whether there is anything to do for a site: what its results follow from, and what they followed from last time.

Here: the comparison that `ranvier run` and the landing sensor share. Not here: doing it (`orchestration.steps`). It
follows the data and not the runs, so that a run that died halfway is taken up again whoever starts next.
"""

from __future__ import annotations

import json
from pathlib import Path

from ingestion import deliveries as landing
from qa.imaging.measure import VERSION
from qa.imaging.verdict import load_limits
from warehouse import lake
from warehouse.dictionary import FOLDER
from warehouse.home import Home, Network


def basis(home: Home, network: Network, site: str) -> str:
    """Short name of everything a site's results follow from; while it stays the same there is nothing to do."""
    return lake.sha256_json(
        {
            "deliveries": sorted(_received(home, site)),
            "loose": landing.loose_files(home, site),
            "thresholds": load_limits(network.thresholds).sha256,
            "measures": VERSION,
            "dictionary": {path.name: lake.sha256_file(path) for path in sorted(FOLDER.glob("*.yaml"))},
        }
    )


def _received(home: Home, site: str) -> list[str]:
    keys: list[str] = lake.read_table(home, "raw_lake__delivery", site)["delivery_key"].to_list()
    return keys


def _basis_file(home: Home, site: str) -> Path:
    return home.cache / "basis" / f"{site}.json"


def note_done(home: Home, network: Network, site: str) -> None:
    """Remember that the site's results follow from what there is now. Call it when the last of them is written."""
    lake.write_json(_basis_file(home, site), basis(home, network, site))


def find_news(home: Home, network: Network, site: str) -> str | None:
    """Short name of what is to be done for a site, the same until that changes; None when nothing is.

    There is something when a complete delivery was not received, and when results do not follow from what was: their
    run died, or thresholds, the dictionary or the measures' version are others now. A delivery that is still being
    copied is nothing yet.
    """
    found = landing.find_deliveries(home, network, site)
    waiting = sorted(str(one.manifest_sha256) for one in found if one.is_complete and not one.is_received)
    now = basis(home, network, site)
    if not waiting:
        path = _basis_file(home, site)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        has_any = bool(_received(home, site)) or landing.loose_files(home, site) > 0
        if not has_any or known == now:
            return None
    return lake.sha256_json([waiting, now])[:16]
