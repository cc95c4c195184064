"""One real PostgreSQL server for all tests here, and a real release of two sites in it."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the server's helpers, which are no test

from server import Server, find_binaries, running

from warehouse.home import Home
from warehouse.users import User, add_user


def is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture(scope="session")
def binaries() -> Path:
    found = find_binaries()
    if found is None:
        pytest.skip("no PostgreSQL server here; install it with: apt install postgresql")
    if os.getuid() == 0 and not is_user("postgres"):
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return found


@pytest.fixture(scope="session")
def server(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of `mirrored`."""
    with ready(binaries, tmp_path_factory.mktemp("empty")) as started:
        yield started


@pytest.fixture(scope="session")
def spare(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for homes that are written for one test: a mirror holds one home."""
    with ready(binaries, tmp_path_factory.mktemp("spare")) as started:
        yield started


@contextmanager
def ready(binaries: Path, empty: Path) -> Iterator[Server]:
    """A server that `--init` has set up and called ready."""
    (empty / "network.yaml").write_text("{}")
    with running(binaries) as started:
        started.ranvier(empty, "--init", check=False)
        started.stop()
        started.start()
        started.ranvier(empty, "--init")
        yield started


@pytest.fixture
def reaching(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, named by the environment of this process."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@dataclass
class Mirrored:
    """A real release in the mirror, with users of several tiers and their passwords."""

    server: Server
    home: Home
    hidden: set[str]
    shared: set[str]
    databases: dict[str, str]
    passwords: dict[str, str]

    def connect(self, user: str, target: str, **more: object):  # type: ignore[no-untyped-def]
        return self.server.connect(user, self.passwords[user], self.databases[target], **more)


USERS = {
    "alice": User("alice", "registered"),
    "bob": User("bob", "steward"),
    "carol": User("carol", "site", site="AA"),
    "dave": User("dave", "open"),
}


@pytest.fixture(scope="session")
def mirrored(server: Server, released, tmp_path_factory: pytest.TempPathFactory) -> Mirrored:  # type: ignore[no-untyped-def]
    from warehouse.mirror.databases import statuses
    from warehouse.mirror.people import issue_password
    from warehouse.mirror.publish import publish
    from warehouse.mirror.server import connect

    root = tmp_path_factory.mktemp("mirrored") / "home"
    shutil.copytree(released.home.root, root, symlinks=True)
    home = Home(root)
    for user in USERS.values():
        add_user(home, user)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        publish(home)
        databases = {str(state.target): state.database for state in statuses(home)}
        with connect() as admin:
            passwords = {name: issue_password(admin, name)[0] for name in USERS}
    return Mirrored(server, home, released.hidden, released.shared, databases, passwords)
