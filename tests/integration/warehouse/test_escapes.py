"""Every attempt of the list through the gateway: nothing of another tier, no path, and the next question answered."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import duckdb
import psutil
import pyarrow as pa
import pytest
from escapes import MOST_ROWS, Attempt, Planted, Reply, attempts, filled, leaks, plant
from network import Lake

from warehouse import audit, gateway
from warehouse.confinement import ADDRESS_SPACE
from warehouse.errors import QueryRefused
from warehouse.gateway_process import MEMORY, _connect
from warehouse.statement import Names, run, sentence

SECONDS = 2.0
"""Time limit of a question here."""
ALL = attempts()
HEAVY = ("memory", "time")
Door = Callable[[str], Reply]


@pytest.fixture(scope="session")
def planted(released: Lake, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(released.home, tmp_path_factory.mktemp("planted") / "ranvier_home_7f3a")


@pytest.fixture
def door(planted: Planted) -> Door:
    """Asks `registered` and gives back what an asker would see."""

    def ask(sql: str) -> Reply:
        try:
            with gateway.query(planted.home, sql, tier="registered", user="mallory", seconds=SECONDS) as answer:
                seen, rows = [str(answer.schema)], 0
                for batch in answer.batches():
                    seen.append(str(batch.slice(0, MOST_ROWS).to_pydict()))
                    rows += batch.num_rows
                    if rows >= MOST_ROWS:
                        break
                return Reply("\n".join(seen), None)
        except QueryRefused as refused:
            return Reply(None, str(refused))

    return ask


def _judge(attempt: Attempt, planted: Planted, door: Door) -> None:
    sql = filled(attempt, planted)
    start = time.monotonic()
    reply = door(sql)
    took = time.monotonic() - start
    assert leaks(reply, planted, sql) == [], reply.text[:500]
    if attempt.expect == "refused":
        assert reply.refusal, f"answered: {reply.text[:500]}"
    # Another minute for a busy machine; without a limit these run for hours.
    assert took < SECONDS + 60
    assert audit.entries(planted.home)[-1]["outcome"] != "unfinished"
    assert not [child for child in psutil.Process().children(recursive=True) if "gateway" in " ".join(child.cmdline())]


def _is_alive(door: Door) -> bool:
    reply = door("select count(*) as visits from fct_visit")
    return reply.refusal is None and "visits" in (reply.answer or "")


def test_the_list_is_long_enough() -> None:
    assert len(ALL) >= 120
    assert len({attempt.kind for attempt in ALL}) >= 15
    assert {attempt.expect for attempt in ALL} == {"refused", "harmless"}


def test_what_is_planted_can_be_seen_by_who_may(planted: Planted) -> None:
    """Else the search for it would prove nothing."""
    with gateway.query(planted.home, f"select * from {planted.table}", tier="steward", user="s") as answer:
        assert planted.value in str(answer.rows)


QUICK = [attempt for attempt in ALL if attempt.kind not in HEAVY]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", QUICK, ids=lambda attempt: attempt.id)
def test_attempt(attempt: Attempt, planted: Planted, door: Door) -> None:
    _judge(attempt, planted, door)


@pytest.mark.parametrize("attempt", QUICK[::9], ids=lambda attempt: attempt.id)
def test_attempt_of_a_sample(attempt: Attempt, planted: Planted, door: Door) -> None:
    """Every ninth, each in a process of its own as for an analyst."""
    _judge(attempt, planted, door)


def test_all_attempts_on_one_connection(planted: Planted) -> None:
    """All that need little memory, one after the other: none changes what the next may do."""
    db = _connect(str(gateway.tier_file(planted.home, "registered").resolve()))
    names = Names.read(db)
    count = "select count(*) from fct_visit"
    before = db.execute(count).fetchone()
    answered = []
    for attempt in QUICK:
        sql = filled(attempt, planted)
        try:
            rows = run(db, sql, names)
            first = next(iter(rows), None)
            reply = Reply(str(rows.schema) + str(first and first.slice(0, MOST_ROWS).to_pydict()), None)
            if attempt.expect == "refused":
                answered.append(attempt.id)
        except (QueryRefused, duckdb.Error, pa.ArrowException, MemoryError, RecursionError, OSError) as error:
            reply = Reply(None, sentence(error, names, sql, MEMORY))
        assert leaks(reply, planted, sql) == [], (attempt.id, reply.text[:500])
    assert answered == []
    assert db.execute(count).fetchone() == before


def test_the_next_question_is_answered(door: Door) -> None:
    assert _is_alive(door)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [a for a in ALL if a.kind in HEAVY], ids=lambda attempt: attempt.id)
def test_bomb(attempt: Attempt, planted: Planted, door: Door) -> None:
    _judge(attempt, planted, door)
    assert _is_alive(door)
    # The largest process that this one has waited for, in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < ADDRESS_SPACE


@pytest.mark.parametrize("name", ["long list", "doubling a text"])
def test_bomb_of_a_sample(name: str, planted: Planted, door: Door) -> None:
    _judge(next(a for a in ALL if a.name == name), planted, door)
    assert _is_alive(door)
