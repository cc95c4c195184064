"""Two homes compared row by row, although no key of one stands in the other."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import duckdb
import pytest

from tests.faults.homes import SECRET
from warehouse import releases
from warehouse.home import Home
from warehouse.pseudonyms import KEY_VARIABLE, Pseudonyms

KEY = re.compile(r"(?:dlv|sbj|ses|ser|scn)_[0-9a-f]{16}")
"""Keys also stand inside other values, such as `dlv_0123456789abcdef-patient-3-4`."""
IN_BIDS = re.compile(r"(sub|ses|acq)-([0-9a-f]{16})")
"""BIDS names allow no underscore inside a value, so that a key stands there without its prefix."""
BIDS_PREFIX = {"sub": "sbj", "ses": "ses", "acq": "ser"}


def tables_of(home: Home, *files: str) -> dict[str, list[str]]:
    """Every table of a release's files: rows sorted, keys told by their lookup, clock times and version left out.

    A finding's key is a hash of its rule and its entity's key: it is computed anew, and then told by these two.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_VARIABLE, SECRET)
        lookups = {key: f"{kind} {lookup}" for kind, lookup, _, key in Pseudonyms(home).lookup_table()}
    found: dict[str, list[str]] = {}
    for file in files or ("steward.duckdb",):
        for name, rows in _tables(releases.release_folder(home) / file).items():
            whole = [IN_BIDS.sub(lambda part: f"{part[1]}-{BIDS_PREFIX[part[1]]}_{part[2]}", row) for row in rows]
            found[f"{file} {name}"] = sorted(KEY.sub(lambda key: lookups[key[0]], row) for row in whole)
    return found


def _tables(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with duckdb.connect(str(path), read_only=True) as db:
        names = [row[0] for row in db.execute("select table_name from information_schema.tables").fetchall()]
        for name in names:
            cursor = db.execute(f'select * from "{name}"')
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            for row in rows:
                if "finding_key" in row:
                    parts = f"{row['rule_id']}\x1f{row['entity_key']}"
                    assert row.pop("finding_key") == hashlib.sha256(parts.encode()).hexdigest()[:24]
            found[name] = [repr({k: v for k, v in row.items() if not _is_of_this_run(k)}) for row in rows]
    return found


def _is_of_this_run(column: str) -> bool:
    return column == "release_version" or column.endswith("_datetime")
