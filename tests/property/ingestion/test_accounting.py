"""Whatever a site sends, what arrived is what was accepted and what was refused, and no name gets through."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.deliveries import find_deliveries
from ingestion.display import allowed_words, display_name
from ingestion.receive import receive
from warehouse import lake
from warehouse.home import Home, Network, Site

NETWORK = Network(quiet_seconds=30, sites=[Site(code="HAM")])
HEADERS = {
    "patients": ["patient_id", "sex", "birth_date", "disease_course"],
    "visits": ["patient_id", "visit_date", "edss"],
    "relapses": ["patient_id", "relapse_date", "relapse_severity"],
}
CELL = st.sampled_from(
    ["", "P1", "P2", "F", "X", "1980", "1980-02-30", "2.5", "two", "RRMS", '"', "a,b", "mild", " ", "é"]
)
NAME = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes, int]:
    """(name, content, rows): each row stands on a line of its own and is not blank."""
    kind = draw(st.sampled_from(sorted(HEADERS)))
    separator = draw(st.sampled_from([",", ";"]))
    width = len(HEADERS[kind])
    rows = draw(st.lists(st.lists(CELL, min_size=width - 1, max_size=width + 1), max_size=8))
    # Unpaired quotes may join lines, which is a reading of its own: here they stand in pairs.
    lines = [separator.join("q" if cell == '"' else cell for cell in ("P0", *row)) for row in rows]
    text = "\n".join([separator.join(HEADERS[kind]), *lines])
    return f"{kind}_{draw(NAME)}.csv", text.encode(draw(st.sampled_from(["utf-8", "utf-16"]))), len(lines)


@st.composite
def strange(draw: st.DrawFn) -> tuple[str, bytes, int]:
    ending = draw(st.sampled_from([".csv", ".txt", ".xlsx"]))
    return f"{draw(NAME)}{ending}", draw(st.binary(max_size=200)), 0


@EXAMPLES
@given(files=st.lists(tables() | strange(), max_size=5), packed=st.booleans())
def test_received_is_accepted_and_refused(files: list[tuple[str, bytes, int]], packed: bool) -> None:
    files = list({name.casefold(): (name, data, rows) for name, data, rows in files}.values())
    with tempfile.TemporaryDirectory() as root:
        home = Home(Path(root))
        folder = home.landing / "HAM" / "2026-01"
        folder.mkdir(parents=True)
        (folder / "_COMPLETE").touch()
        if packed:
            with zipfile.ZipFile(folder / "all.zip", "w") as archive:
                for name, data, _ in files:
                    archive.writestr(name, data)
        else:
            for name, data, _ in files:
                (folder / name).write_bytes(data)
        [delivery] = find_deliveries(home, NETWORK, "HAM")
        receive(home, NETWORK, delivery)
        fates = lake.read_table(home, "raw_lake__file")
        refused = fates.filter(pl.col("status") == "refused")
        rows = lake.read_table(home, "raw_registry__refusal").height
        rows += sum(lake.read_table(home, f"raw_registry__{name}").height for name in ("patient", "visit", "relapse"))
    assert fates.height == len(files) + 1 + packed
    assert fates["file_number"].to_list() == list(range(1, fates.height + 1))
    assert set(fates["status"]) <= {"accepted", "refused"}
    assert refused["reason"].null_count() == 0 == refused["reason_code"].null_count()
    assert rows == sum(count for _, _, count in files)


@settings(deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([*sorted(allowed_words())[:30], "Müller", "Ann", "0042"])).map("_".join)
)
def test_no_unlisted_token_gets_through(name: str) -> None:
    for token in re.findall(r"[^\W_]+", display_name(name)):
        pieces = re.findall(r"\d+|[^\W\d]+", token)
        known = token.casefold() in allowed_words()
        assert known or all(p.casefold() in allowed_words() or (p.isdigit() and len(p) <= 4) for p in pieces)
