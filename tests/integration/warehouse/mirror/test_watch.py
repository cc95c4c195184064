"""The watchdog keeps the time limit from outside, and the audit log holds what was asked, without its values."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from conftest import Mirrored
from server import Server

from warehouse import audit
from warehouse.mirror.server import connect
from warehouse.mirror.watch import Watch, look, watch

pytestmark = pytest.mark.postgres


@pytest.fixture
def watching(mirrored: Mirrored, reaching: Server) -> Iterator[list[str]]:
    """A watch over the mirror with a limit of two seconds; what it says."""
    text = mirrored.home.network_file.read_text()
    mirrored.home.network_file.write_text(text + "\nmirror: {seconds: 2}\n")
    said: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(mirrored.home, said.append), kwargs={"is_stopped": stop.is_set})
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join(30)
        mirrored.home.network_file.write_text(text)
    assert not thread.is_alive()


def entries(mirrored: Mirrored, word: str) -> list[dict[str, object]]:
    return [entry for entry in audit.entries(mirrored.home) if word in str(entry.get("statement"))]


def wait_for(mirrored: Mirrored, word: str, seconds: float = 20) -> list[dict[str, object]]:
    until = time.monotonic() + seconds
    while not (found := entries(mirrored, word)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def test_a_statement_over_the_limit_is_ended_though_the_user_raised_it(mirrored: Mirrored, watching: list[str]) -> None:
    with mirrored.connect("alice", "registered") as connection:
        connection.execute("set statement_timeout = 0")
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(
                "select count(*) from fct_visit as v" + "".join(f" cross join fct_visit as v{i}" for i in range(9))
            )
        assert time.monotonic() - started < 20
        assert connection.execute("select 1").fetchone() == (1,)
    outcomes = {str(entry["outcome"]) for entry in wait_for(mirrored, "cross join")}
    assert "stopped: over the time limit" in outcomes
    until = time.monotonic() + 10  # it is written down first, and said then
    while not watching and time.monotonic() < until:
        time.sleep(0.1)
    assert "alice" in watching[0]


def test_what_was_asked_is_in_the_audit_log_without_its_values(mirrored: Mirrored, watching: list[str]) -> None:
    with mirrored.connect("alice", "registered", application_name="ranvier mirror") as connection:
        connection.execute(
            "select edss from fct_visit markedalias where subject_key = 'sbj_secret' and visit_number = 7731"
        )
        connection.execute("select 1 from fct_visit where subject_key = %s order by edss", ["sbj_bound"])
        with pytest.raises(psycopg.Error):
            connection.execute("select nothing_of_this_name from fct_visit group by edss")
        with pytest.raises(psycopg.Error):
            connection.execute("select distinct * from pg_authid")
    with pytest.raises(psycopg.OperationalError):
        mirrored.server.connect("alice", "wrong", mirrored.databases["registered"])
    (asked,) = wait_for(mirrored, "visit_number = ?")
    assert asked["statement"] == "select edss from fct_visit ? where subject_key = ? and visit_number = ?"
    assert (asked["user"], asked["tier"], asked["via"], asked["outcome"]) == (
        "alice",
        "registered",
        "postgres",
        "sent",
    )
    assert asked["release"] == mirrored.home.current_release.readlink().name
    assert [entry["outcome"] for entry in wait_for(mirrored, "order by edss")] == ["sent"]
    assert "failed" in [entry["outcome"] for entry in wait_for(mirrored, "group by edss")]
    assert "refused" in [entry["outcome"] for entry in wait_for(mirrored, "select distinct")]
    until = time.monotonic() + 10
    while "login refused" not in {e["outcome"] for e in audit.entries(mirrored.home)} and time.monotonic() < until:
        time.sleep(0.2)
    assert "login refused" in {entry["outcome"] for entry in audit.entries(mirrored.home)}
    text = "".join(path.read_text() for path in mirrored.home.audit.iterdir())
    assert not [word for word in ("sbj_secret", "7731", "sbj_bound", "wrong") if word in text]
    assert audit.verify(mirrored.home).is_whole


def test_what_was_asked_while_no_watch_ran_is_not_lost_nor_told_twice(mirrored: Mirrored, reaching: Server) -> None:
    with mirrored.connect("carol", "site AA") as connection:
        connection.execute("select count(*) from dim_site group by cube (site_code)")
    for _ in range(2):
        with connect() as admin:
            look(Watch(mirrored.home, 60, lambda _: None, admin.info.user), admin)
    (entry,) = entries(mirrored, "group by cube")
    assert (entry["user"], entry["tier"], entry["site"]) == ("carol", "site", "AA")
