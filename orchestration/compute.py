"""Where image work runs: local Dask worker processes, or the network's own Dask cluster.

Here: the Dask form of `warehouse.work.Mapper`. Not here: what is computed. Results are content-addressed by those who
make them, so a worker or this process may die at any time and nothing is computed twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from warehouse.home import Home, Network
from warehouse.work import Mapper

T = TypeVar("T")
R = TypeVar("R")

# One thread per worker: the work itself is single-threaded, and results must not depend on a thread count.
# A worker keeps the memory of one image for the next: Dask's default gives each array back to the system at once, and
# a third of an image's time went into getting it again.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    # A folder that is gone already when a worker ends is no news. By the environment: a worker sets up its logging
    # before it gets this process's configuration.
    "DASK_LOGGING": "{'distributed': 'error', 'distributed.diskutils': 'critical'}",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(512 * 1024**2),
}


class Compute:
    """One cluster for as long as one `ranvier` command runs; started at the first piece of work, not before."""

    def __init__(self, home: Home, network: Network) -> None:
        self._home = home
        self._imaging = network.imaging
        self._client: Any = None
        self._cluster: Any = None

    def _connect(self) -> Any:
        if self._client is not None:
            return self._client
        import dask
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        logging.getLogger("distributed.diskutils").setLevel(logging.CRITICAL)
        if self._imaging.scheduler:
            self._client = Client(self._imaging.scheduler, set_as_default=False)  # type: ignore[no-untyped-call]
            return self._client
        dask.config.set(
            {
                "temporary-directory": str(self._home.cache / "dask"),
                "distributed.worker.memory.terminate": False,
                "distributed.worker.memory.pause": False,
                "distributed.scheduler.allowed-failures": 1,
                "distributed.admin.log-format": "%(message)s",
                "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
            }
        )
        self._cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=self._imaging.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        )
        self._client = Client(self._cluster, set_as_default=False)  # type: ignore[no-untyped-call]
        return self._client

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R | Exception]]:
        """See `warehouse.work.Mapper`."""
        if not items:
            return
        from distributed import KilledWorker, as_completed

        client = self._connect()
        futures = {client.submit(function, item, pure=False): index for index, item in enumerate(items)}
        suspects = []
        for future in as_completed(list(futures), loop=client.loop):  # type: ignore[no-untyped-call]
            error = future.exception()
            if isinstance(error, KilledWorker):
                suspects.append(futures[future])
            else:
                yield futures[future], error if error is not None else future.result()
        # A worker that dies takes along what waited for it. One at a time, each shows whether it was the cause.
        for index in suspects:
            future = client.submit(function, items[index], pure=False)
            error = future.exception()
            yield index, error if error is not None else future.result()

    def close(self) -> None:
        """End the workers."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        self._client = self._cluster = None


@contextmanager
def compute(home: Home, network: Network) -> Iterator[Mapper]:
    """The mapper of this home, for as long as the block lasts."""
    pool = Compute(home, network)
    try:
        yield pool.map
    finally:
        pool.close()
