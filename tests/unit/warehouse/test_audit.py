"""What the audit log keeps of a statement."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from warehouse import audit
from warehouse.home import Home


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        (
            "select edss from fct_visit where edss > 3.5",
            "select edss from fct_visit where edss > ?",
        ),
        ("select 'it''s' || $$x$$ || $t$ y $t$", "select ? || ? || ?"),
        ("select 1 -- for Jane\n + 2", "select ? + ?"),
        ("select /* Jane */ t25fw_s from fct_visit", "select t25fw_s from fct_visit"),
        ('select "edss", "Jane Doe" from fct_visit', 'select "edss", ? from fct_visit'),
        ("select sbj_0011223344556677", "select ?"),
        ("select 'unfinished Jane", "select ?"),
        ('select "unfinished Jane', "select ?"),
        ("select /* unfinished Jane", "select"),
        ("select e'x', 0x1F, 1e5, .5", "select e?, ?, ?, ?"),
    ],
)
def test_values_are_replaced(sql: str, kept: str) -> None:
    assert audit.without_literals(sql, frozenset({"edss", "fct_visit", "t25fw_s"})) == kept


def test_chain_holds_when_many_write_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda n: audit.append(home, {"user": str(n), "statement": "x" * 8000}),
                range(60),
            )
        )
    assert audit.verify(home) == []
    assert [e["number"] for e in audit.entries(home)] == list(range(1, 61))
