"""A gateway started as its user starts it: `ranvier serve` in a process of its own, on a copy of a release.

Here: starting, people with tokens, raw requests. Not here: assertions.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from warehouse.home import Home
from warehouse.users import User, add_user, issue_token

GRANTS = [
    User("rita", "registered"),
    User("stew", "steward"),
    User("sita", "site", site="AA"),
    User("other", "registered"),
]
RANVIER = [sys.executable, "-c", "from orchestration.cli import main; main()"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """A running gateway, and the tokens of the people of `GRANTS`."""

    home: Home
    port: int
    process: subprocess.Popen[bytes]
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, name: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def ask(self, sql: str, name: str | None = "rita", **fields: object) -> httpx.Response:
        tier = {"rita": "registered", "stew": "steward", "sita": "site", "other": "registered"}.get(name or "", "open")
        body = {"sql": sql, "tier": tier} | ({"site": "AA"} if tier == "site" else {}) | fields
        with self.client(name) as client:
            return client.post("/v1/sql", json=body)

    def raw(self, request: bytes, seconds: float = 30) -> bytes:
        """Send bytes as they are; everything that comes back until the other side closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.settimeout(2)
            answer = b""
            try:
                connection.sendall(request)
                while data := connection.recv(65536):
                    answer += data
            except (TimeoutError, ConnectionError):
                pass
            return answer

    def workers(self, tier: str) -> list[int]:
        """Processes that hold this tier's file."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(
                word.startswith(bytes(self.home.releases)) and word.endswith(f"{tier}.duckdb".encode())
                for word in words
            ):
                found.append(int(folder.name))
        return found


def copy_release(source: Home, root: Path, **gateway: object) -> Home:
    """A home of its own with the releases of another, so that its audit log and people are its own."""
    home = Home(root)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source.releases, home.releases, symlinks=True)
    network = yaml.safe_load(source.network_file.read_text())
    network["gateway"] = {"requests_per_minute": 1_000_000} | gateway
    home.network_file.write_text(yaml.safe_dump(network))
    return home


@contextmanager
def serving(home: Home, *options: str) -> Iterator[Served]:
    """`ranvier serve` on the home until the block ends."""
    tokens = {}
    for user in GRANTS:
        add_user(home, user)
        tokens[user.name] = issue_token(home, user.name)[0]
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [*RANVIER, "serve", "--home", str(home.root), "--port", str(port), *options], env=environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    served = Served(home, port, process, tokens)
    try:
        end = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{served.url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
