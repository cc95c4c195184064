"""A worker is killed while many ask: its query gets one sentence, nobody else notices, and another takes its place."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from network import Lake
from serving import Served, copy_release, serving

from warehouse import audit


def test_only_the_query_of_a_killed_worker_notices(released: Lake, tmp_path: Path) -> None:
    with serving(copy_release(released.home, tmp_path / "home", queries_at_once=20)) as served:
        _kill_under_load(served)


def _kill_under_load(served: Served) -> None:
    over = threading.Event()
    answers: dict[str, list[tuple[int, str]]] = {"rita": [], "stew": [], "sita": []}

    def keep_asking(name: str) -> None:
        while not over.is_set():
            found = served.ask("select count(*) as n from dim_subject", name)
            answers[name].append((found.status_code, found.text))

    threads = [threading.Thread(target=keep_asking, args=(name,)) for name in answers for _ in range(2)]
    for thread in threads:
        thread.start()
    killed: set[int] = set()
    long_answers: list[tuple[int, str]] = []
    sql = "select count(*) as n from " + ", ".join(f"fct_visit as v{number}" for number in range(8))
    for _ in range(3):

        def ask_long() -> None:
            found = served.ask(sql, "other")
            long_answers.append((found.status_code, found.text))

        asking = threading.Thread(target=ask_long)
        asking.start()
        end = time.monotonic() + 60
        while not any((e["user"], e["outcome"]) == ("other", "unfinished") for e in audit.entries(served.home)):
            assert time.monotonic() < end
            time.sleep(0.1)
        # It is written down when the question has its process: that one is among those that are killed.
        for process in served.workers("registered"):
            os.kill(process, signal.SIGKILL)
            killed.add(process)
        asking.join(timeout=60)
    time.sleep(2)
    over.set()
    for thread in threads:
        thread.join()
    assert len(killed) >= 3
    assert all(status == 400 and "was stopped" in text for status, text in long_answers) and len(long_answers) == 3
    for name in ("stew", "sita"):  # other tiers: not one answer differs
        assert len(answers[name]) > 10 and len(set(answers[name])) == 1 and answers[name][0][0] == 200
    refused = [text for status, text in answers["rita"] if status != 200]
    told = ("was stopped", "could not be started")  # killed while it answered, or while it began
    assert all(any(words in text for words in told) for text in refused) and len(refused) <= len(killed), refused
    assert answers["rita"][-1] == (200, '[{"n":20}]\n')
    assert not killed & set(served.workers("registered"))
