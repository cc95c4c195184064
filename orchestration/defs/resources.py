"""What every asset is handed: the home, and how image work is spread out.

Here: the one resource. Not here: Dask (`orchestration.compute`). Whoever starts runs in this process hands a mapper to
`working_with`; a run that the UI started has a process and a pool of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from orchestration.compute import Compute
from orchestration.instance import HOME_VARIABLE
from warehouse.home import Home, Network, find_home
from warehouse.work import Mapper, Progress, serial, silent


@dataclass(frozen=True)
class Tools:
    """Who does image work, and who is told how far it is."""

    mapper: Mapper = serial
    progress: Progress = silent


_tools: list[Tools] = []
"""In-process runs find here what their starter handed them; a mapper cannot pass through a run's configuration."""


@contextmanager
def working_with(tools: Tools) -> Iterator[None]:
    """Runs executed in this process inside the block use these tools."""
    _tools.append(tools)
    try:
        yield
    finally:
        _tools.pop()


class Workplace(dg.ConfigurableResource):  # type: ignore[type-arg]  # the base is generic over what it provides: itself
    """The home a run works in."""

    root: str = dg.EnvVar(HOME_VARIABLE)
    _pool: Compute | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have a pool ready for this run; its workers start at the first image, if there is one."""
        if not _tools:
            self._pool = Compute(self.home, self.network)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End this run's workers."""
        if self._pool is not None:
            self._pool.close()

    @property
    def home(self) -> Home:
        """The home's paths."""
        return find_home(Path(self.root))

    @property
    def network(self) -> Network:
        """What the home's network.yaml says now."""
        return self.home.network()

    @property
    def tools(self) -> Tools:
        """What the starter of this process handed over; else this run's own pool."""
        if _tools:
            return _tools[-1]
        return Tools(self._pool.map) if self._pool is not None else Tools()
