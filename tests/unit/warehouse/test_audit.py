"""What the audit log keeps of a statement, and of a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse import audit
from warehouse.home import Home
from warehouse.placeholders import without_literals

KNOWN = frozenset({"edss", "fct_visit", "t25fw_s", "sex"})


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("select edss from fct_visit where edss > 3.5", "select edss from fct_visit where edss > ?"),
        ("SELECT Edss FROM fct_visit", "SELECT Edss FROM fct_visit"),
        ("select 'it''s' || $$x$$ || $t$ y $t$", "select ? || ? || ?"),
        ("select $größe$ Jane $größe$, $1", "select ?, $?"),
        ("select $a$ Jane $b$ Doe $a$", "select ?"),
        ("select 1 -- for Jane\n + 2", "select ? + ?"),
        ("select /* Jane */ t25fw_s from fct_visit", "select t25fw_s from fct_visit"),
        ("select /* /* Jane */ Doe */ 1", "select ? */ ?"),
        ('select "edss", "Jane Doe" from fct_visit', 'select "edss", ? from fct_visit'),
        ('select "Jane ""edss"" Doe"', "select ?"),
        ("select sbj_0011223344556677", "select ?"),
        ("select Jane, Müller, Ярослав, 李 from fct_visit", "select ?, ?, ?, ? from fct_visit"),
        ("select edss as jane from fct_visit as doe", "select edss as ? from fct_visit as ?"),
        ("select 'unfinished Jane", "select ?"),
        ('select "unfinished Jane', "select ?"),
        ("select /* unfinished Jane", "select"),
        ("select $$unfinished Jane", "select ?"),
        (r"select e'it\'s Jane', 2", "select ??? ??"),
        ("select e'x', 0x1F, 1e5, .5, 1_000", "select ??, ?, ?, ?, ?"),
        ("select x'4A616E65'", "select ??"),
        ("select count(*), median (edss), max from fct_visit", "select count(*), median (edss), ? from fct_visit"),
        ("copy fct_visit to '/tmp/Jane.csv'", "copy fct_visit to ?"),
        ("select edss\u200bJane\ufeff, ＪＡＮＥ", "select edss???, ?"),
        ("select \ud800 \x00 Jane", "select ? ? ?"),
    ],
)
def test_only_known_names_and_words_of_sql_are_kept(sql: str, kept: str) -> None:
    assert without_literals(sql, KNOWN) == kept


def test_a_question_reads_as_one_entry_with_its_end(tmp_path: Path) -> None:
    home = Home(tmp_path)
    asker = {"user": "ann\udcff", "tier": "open", "site": None, "project": None, "release": "2026-11-24.1"}
    first = audit.ask(home, asker, "select edss from fct_visit where sex = 'f'", KNOWN)
    audit.ask(home, asker, "select 1", KNOWN)
    first.end("answered", 7)
    first.end("abandoned", 9)  # only the first end counts
    audit.append(home, asker | {"statement": "select ?", "outcome": "refused"})  # asked and refused in one record
    answered, unfinished, refused = audit.entries(home)
    assert answered["statement"] == "select edss from fct_visit where sex = ?"
    assert (answered["outcome"], answered["rows"], answered["user"]) == ("answered", 7, "ann\udcff")
    assert answered["seconds"] >= 0 and answered["release"] == "2026-11-24.1"
    assert (unfinished["outcome"], unfinished["rows"]) == ("unfinished", None)
    assert refused["outcome"] == "refused"
    assert audit.verify(home).is_whole
    assert audit.verify(home).records == 4
