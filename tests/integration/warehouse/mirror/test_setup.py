"""The server is closed before it holds data: TLS and a password only, one database, roles as granted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from conftest import Mirrored
from homes import make_home, write_release
from server import Server, running

from warehouse.errors import MirrorError
from warehouse.mirror.people import issue_password, sync_users
from warehouse.mirror.publish import publish
from warehouse.mirror.server import ADMIN, HBA, connect, problems, set_up
from warehouse.users import User, add_user, revoke_user

pytestmark = pytest.mark.postgres


def test_a_server_that_is_not_closed_gets_no_data(
    binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home")
    write_release(home, "2026-11-24.1", subjects=3, visits=2)
    with running(binaries, hba="") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(MirrorError, match="--init"):
            publish(home)
        done = server.ranvier(home.root, "--init", check=False)
        assert done.returncode == 2
        assert "Restart the server" in done.stdout
        assert HBA.splitlines()[1] in done.stdout
        with pytest.raises(MirrorError, match="not ready"):
            publish(home)
        server.stop()
        server.start()
        with server.admin("postgres") as admin:
            admin.execute("create database other")
            assert any("other" in problem for problem in problems(admin))
        hba = server.data / "pg_hba.conf"
        rest = hba.read_text()
        for rules in (
            HBA.replace("reject", "trust", 1),
            HBA.replace("scram-sha-256", "trust"),
            "host all all all md5\n",
        ):
            hba.write_text(rules + HBA + rest)
            with server.admin("postgres") as admin:
                assert any("pg_hba.conf" in problem for problem in problems(admin)), rules
        hba.write_text(HBA + rest)
        with server.admin("postgres") as admin:
            admin.execute("drop database other")
            admin.execute("alter system set ssl = off")
        server.stop()
        server.start(sslmode="disable")
        with server.connect("boss", server.password, "postgres", sslmode="disable") as admin:
            assert [problem for problem in problems(admin) if "TLS is off" in problem]
    with pytest.raises(MirrorError, match="PGHOST"), connect("postgres"):
        pass


def test_only_a_superuser_sets_up(reaching: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect("postgres") as admin:
        admin.execute("create role helper login password 'secret-word' createdb createrole")
        admin.execute("grant connect on database postgres to helper")
    monkeypatch.setenv("PGUSER", "helper")
    monkeypatch.setenv("PGPASSWORD", "secret-word")
    try:
        with pytest.raises(MirrorError, match="superuser") as raised, connect("postgres") as helper:
            set_up(helper)
        assert "secret-word" not in str(raised.value)
    finally:
        with reaching.admin("postgres") as admin:
            admin.execute("drop owned by helper")
            admin.execute("drop role helper")


def test_a_wrong_password_is_not_repeated(reaching: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-secret")
    with pytest.raises(MirrorError) as raised, connect():
        pass
    assert "wrong-secret" not in str(raised.value)


def test_users_come_over_tls_only(mirrored: Mirrored) -> None:
    with mirrored.connect("alice", "registered") as connection:
        assert connection.execute("select count(*) from dim_subject").fetchone() != (0,)
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        mirrored.connect("alice", "registered", sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        mirrored.server.connect("alice", "guess", mirrored.databases["registered"])


@pytest.mark.parametrize("user", ["alice", "bob", "carol", "dave"])
def test_each_user_enters_their_own_database_only(mirrored: Mirrored, user: str) -> None:
    own = {"alice": "registered", "bob": "steward", "carol": "site AA", "dave": "open"}[user]
    for target, database in [*mirrored.databases.items(), ("", "postgres"), ("", "template1"), ("", ADMIN)]:
        if target == own:
            mirrored.server.connect(user, mirrored.passwords[user], database).close()
        else:
            with pytest.raises(psycopg.OperationalError, match=r"permission denied for database|not currently accept"):
                mirrored.server.connect(user, mirrored.passwords[user], database)


def test_passwords_are_kept_as_scram_verifiers(mirrored: Mirrored) -> None:
    with mirrored.server.admin("postgres") as admin:
        kept = dict(admin.execute("select rolname, rolpassword from pg_authid where rolname = any(%s)", [["alice"]]))
    assert kept["alice"].startswith("SCRAM-SHA-256$")
    log = "".join(path.read_text(errors="replace") for path in mirrored.server.data.glob("log/*"))
    assert "SCRAM-SHA-256$" not in log
    assert not [p for p in mirrored.passwords.values() if p in log]
    files = [path for path in mirrored.home.root.rglob("*.json*") if path.is_file()]
    assert files
    assert not [p for p in mirrored.passwords.values() for path in files if p in path.read_text(errors="replace")]


def test_a_grant_that_ends_ends_the_session(mirrored: Mirrored, reaching: Server) -> None:
    add_user(mirrored.home, User("erin", "registered"))
    add_user(mirrored.home, User("erin", "open"))
    with connect() as admin:
        sync_users(admin, mirrored.home)
        password, opened = issue_password(admin, "erin")
        assert {str(target) for target, _ in opened} == {"registered", "open"}
        sessions = [reaching.connect("erin", password, mirrored.databases[t]) for t in ("registered", "open")]
        add_user(mirrored.home, User("erin", "registered", until=datetime.now(UTC).date() - timedelta(days=1)))
        sync_users(admin, mirrored.home)
        with pytest.raises(psycopg.OperationalError):
            sessions[0].execute("select 1")
        assert sessions[1].execute("select count(*) > 0 from dim_variable").fetchone() == (True,)
        add_user(mirrored.home, User("erin", "open", until=date(2100, 1, 1)))
        sync_users(admin, mirrored.home)
        (until,) = admin.execute("select rolvaliduntil from pg_roles where rolname = 'erin'").fetchone() or (None,)
        assert until == datetime(2100, 1, 2, tzinfo=UTC)
        revoke_user(mirrored.home, "erin")
        sync_users(admin, mirrored.home)
        with pytest.raises(psycopg.OperationalError):
            sessions[1].execute("select 1")
        with pytest.raises(MirrorError, match="ranvier user add"):
            issue_password(admin, "erin")
    with pytest.raises(psycopg.OperationalError):
        reaching.connect("erin", password, mirrored.databases["open"])


def test_a_name_that_is_somebody_elses_role_is_left_alone(mirrored: Mirrored, reaching: Server) -> None:
    add_user(mirrored.home, User("boss", "open"))
    try:
        with connect() as admin:
            assert sync_users(admin, mirrored.home) == ["boss"]
            assert admin.execute("select rolsuper from pg_roles where rolname = 'boss'").fetchone() == (True,)
    finally:
        revoke_user(mirrored.home, "boss")


def test_connections_of_a_user_are_limited(mirrored: Mirrored) -> None:
    limit = mirrored.home.network().mirror.connections
    held = [mirrored.connect("dave", "open") for _ in range(limit)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            mirrored.connect("dave", "open")
    finally:
        for connection in held:
            connection.close()
