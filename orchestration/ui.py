"""The Dagster UI and daemon of a home, as child processes that end with this one.

Here: starting, watching and stopping them. Not here: what they run. `read_only` starts the UI alone: it takes no lock,
launches nothing, and may run beside anything else.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from orchestration.instance import open_instance, prepare, variables
from orchestration.recovery import home_lock, recover
from warehouse.errors import HomeError
from warehouse.home import Home

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 20.0


@dataclass
class Interface:
    """A running UI."""

    address: str
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def wait(self, stop: threading.Event) -> None:
        """Return when `stop` is set. Raises HomeError when a child ended by itself."""
        while not stop.wait(0.5):
            for child in self.children:
                if child.poll() is not None:
                    raise HomeError(
                        f"A part of the Dagster UI ended with code {child.returncode}; see the log in the home's "
                        "dagster folder, then start ranvier ui again"
                    )


@contextmanager
def interface(home: Home, *, port: int = 3000, read_only: bool = False) -> Iterator[Interface]:
    """Start webserver and daemon on loopback, yield when the UI answers, and stop both at the end.

    Raises
    ------
    HomeError
        The port or the home is in use, or the UI does not come up.
    """
    _check_port(port)
    with ExitStack() as stack:
        if read_only:
            prepare(home)
        else:
            stack.enter_context(home_lock(home))
            with open_instance(home) as instance:
                recover(home, instance)
        shown = Interface(f"http://{HOST}:{port}")
        stack.callback(_stop, shown.children)
        web = ["webserver", "-h", HOST, "-p", str(port), *(["--read-only"] if read_only else [])]
        shown.children.append(_start(home, web))
        if not read_only:
            shown.children.append(_start(home, ["daemon", "run"]))
        _wait_until_up(shown)
        yield shown


def serve(home: Home, *, port: int = 3000, read_only: bool = False, say: Callable[[str], None]) -> None:
    """Run the UI until interrupted; `say` is told the address once it answers."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with interface(home, port=port, read_only=read_only) as shown:
            say(f"The Dagster UI of {home.root} is at {shown.address} - stop it with Ctrl-C.")
            shown.wait(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(home: Home, arguments: list[str]) -> subprocess.Popen[bytes]:
    part = arguments[0]
    module = {"webserver": "dagster_webserver", "daemon": "dagster._daemon"}[part]
    rest = arguments[1:]
    command = [sys.executable, "-m", module, *rest, "-w", str(home.dagster / "workspace.yaml")]
    with (home.dagster / f"{part}.log").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=home.dagster,
            env={**os.environ, **variables(home)},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            # A session of its own: Ctrl-C reaches this process alone, which then stops the children in order.
            start_new_session=True,
        )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise HomeError(f"Port {port} is in use; choose another with: ranvier ui --port {port + 1}") from error


def _wait_until_up(shown: Interface) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for child in shown.children:
            if child.poll() is not None:
                raise HomeError("The Dagster UI did not start; see webserver.log and daemon.log in the dagster folder")
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{shown.address}/server_info", timeout=5),
        ):
            return
        time.sleep(0.5)
    raise HomeError(f"The Dagster UI did not answer within {START_SECONDS:.0f} s; see webserver.log in the home")


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    """End the children in the reverse of their order, and whatever they leave in their sessions."""
    for child in reversed(children):
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for child in reversed(children):
        try:
            child.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("process %d did not end when asked; it is killed", child.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
