"""Work on real Dask workers: local ones, ones of a cluster that stands already, and ones that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.compute import WORKER_ENVIRONMENT, Compute
from warehouse.home import Home, Imaging, Network


def environment_of(name: str) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get(name)


def half_of(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def die_on(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    local = Compute(Home(tmp_path_factory.mktemp("pool")), Network(imaging=Imaging(workers=2)))
    yield local
    local.close()


def test_work_is_done_by_other_processes_with_the_workers_environment(pool: Compute) -> None:
    answers = dict(pool.map(environment_of, list(WORKER_ENVIRONMENT)))
    assert [answers[i][1] for i in sorted(answers)] == list(WORKER_ENVIRONMENT.values())  # type: ignore[index]
    assert os.getpid() not in {answer[0] for answer in answers.values()}  # type: ignore[index]


def test_an_error_of_one_item_is_handed_over_and_stops_no_other(pool: Compute) -> None:
    answers = dict(pool.map(half_of, [2, 3, 4]))
    assert (answers[0], answers[2]) == (1, 2)
    assert isinstance(answers[1], ValueError)


def test_an_item_that_kills_its_worker_takes_no_neighbour_down(pool: Compute) -> None:
    answers = dict(pool.map(die_on, [0, 1, 2, 3]))
    assert [answers[i] for i in (0, 2, 3)] == [0, 2, 3]
    assert isinstance(answers[1], Exception)


def test_a_cluster_that_stands_already_is_used(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:  # type: ignore[no-untyped-call]
        theirs = {worker.pid for worker in cluster.workers.values()}
        pool = Compute(Home(tmp_path), Network(imaging=Imaging(scheduler=cluster.scheduler_address)))
        try:
            answers = dict(pool.map(environment_of, ["PATH"]))
        finally:
            pool.close()
        assert answers[0][0] in theirs  # type: ignore[index]
