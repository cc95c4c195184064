"""A publish is one step for its readers, whole or not at all, and equal to the release's files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from conftest import Mirrored
from homes import make_home, next_release, write_release
from server import ROOT, Server

from warehouse.catalogue_sql import described
from warehouse.errors import MirrorError
from warehouse.home import Home
from warehouse.mirror.databases import Target, statuses
from warehouse.mirror.people import issue_password
from warehouse.mirror.publish import PUBLISHER, publish
from warehouse.mirror.server import connect
from warehouse.mirror.verify import verify
from warehouse.policy import load_policy
from warehouse.users import User, add_user

pytestmark = pytest.mark.postgres


@pytest.fixture
def own(spare: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of one tier, whose mirror is the spare server."""
    for name, value in spare.environment.items():
        monkeypatch.setenv(name, value)
    return make_home(tmp_path / "home")


def database_of(home: Home) -> str:
    return next(state.database for state in statuses(home) if state.target == Target("registered"))


def test_every_table_is_equal_and_publishing_again_does_nothing(mirrored: Mirrored, reaching: Server) -> None:
    compared, wrong = verify(mirrored.home)
    assert not wrong
    assert all(c.is_equal for c in compared)
    assert {str(c.target) for c in compared} == {"open", "registered", "steward", "site AA", "site BB"}
    assert sum(c.rows_file or 0 for c in compared) > 500
    outcome = publish(mirrored.home)
    assert not [done for done in outcome.databases if done.is_new]


def test_meanings_keys_and_indexes_are_there(mirrored: Mirrored) -> None:
    for tier, target, user in (("registered", "registered", "alice"), ("steward", "steward", "bob")):
        with mirrored.connect(user, target) as connection:
            meant = {
                (table, column): text
                for table, column, text in connection.execute(
                    "select relname, attname, col_description(c.oid, attnum) from pg_class c join pg_attribute on"
                    " attrelid = c.oid where relnamespace = 'release'::regnamespace and relkind = 'r' and attnum > 0"
                )
            }
            tables = dict(
                connection.execute(
                    "select relname, obj_description(oid) from pg_class where relnamespace = 'release'::regnamespace"
                    " and relkind = 'r'"
                ).fetchall()
            )
            keys = dict(
                connection.execute(
                    "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint where contype = 'p'"
                ).fetchall()
            )
            indexed = {
                definition.split(" USING ")[0].split()[-1].removeprefix("release.")
                + definition.split(" USING btree ")[1]
                for (definition,) in connection.execute("select indexdef from pg_indexes where schemaname = 'release'")
            }
        declared = load_policy().tiers[tier]
        assert meant == {(t.name, c.name): described(c) for t in declared.values() for c in t.columns}
        assert tables == {table.name: table.description for table in declared.values()}
        assert keys["dim_subject"] == "PRIMARY KEY (subject_key)"
        assert keys["fct_visit"] == "PRIMARY KEY (subject_key, visit_number)"
        assert {"fct_mri_series(subject_key)", "fct_image_measure(measure)"} <= indexed


def test_a_changed_row_is_noticed_and_repaired(mirrored: Mirrored, reaching: Server) -> None:
    with reaching.admin(mirrored.databases["registered"]) as admin:
        admin.execute("set default_transaction_read_only = off")
        admin.execute("update release.fct_visit set edss = edss + 0.5 where visit_number = 1")
        admin.execute("create table release.extra (i int)")
    compared, _ = verify(mirrored.home)
    assert [(c.table, c.rows_file is None) for c in compared if not c.is_equal] == [
        ("fct_visit", False),
        ("extra", True),
    ]
    done = reaching.ranvier(mirrored.home.root, "--verify", "--json", check=False)
    assert done.returncode == 2
    assert [row["table"] for row in json.loads(done.stdout)["tables"] if not row["is_equal"]] == ["fct_visit", "extra"]
    reaching.ranvier(mirrored.home.root, "--publish", "--again")
    reaching.ranvier(mirrored.home.root, "--verify")


def test_a_withdrawn_subject_is_gone_from_rows_statistics_and_files(mirrored: Mirrored, reaching: Server) -> None:
    subject = sorted(mirrored.shared)[0]
    next_release(mirrored.home, "2026-11-25.1", without=subject)
    publish(mirrored.home)
    for database in mirrored.databases.values():
        with reaching.admin(database) as admin:
            admin.execute("vacuum full pg_statistic")
            schemas = {name for (name,) in admin.execute("select nspname from pg_namespace")}
            assert {name for name in schemas if name.startswith("release")} == {"release"}
            assert subject not in str(admin.execute("select * from pg_stats").fetchall())
            tables = admin.execute(
                "select oid::regclass::text from pg_class where relkind = 'r' and oid > 16383"
            ).fetchall()
            for (table,) in tables:
                assert subject not in str(admin.execute(f"select * from {table}").fetchall()), table  # type: ignore[arg-type]
    compared, wrong = verify(mirrored.home)
    assert not wrong
    assert all(c.is_equal for c in compared)


def test_a_server_that_mirrors_another_network_is_left_alone(
    mirrored: Mirrored, reaching: Server, tmp_path: Path
) -> None:
    other = make_home(tmp_path / "other")
    other.network_file.write_text("name: Another network")
    write_release(other, "2026-11-24.1", subjects=3, visits=2)
    with pytest.raises(MirrorError, match="another network"):
        publish(other)
    assert len(statuses(mirrored.home)) == len(mirrored.databases)


def test_two_publishes_do_not_run_at_once(mirrored: Mirrored, reaching: Server) -> None:
    with connect() as other:
        other.execute("select pg_advisory_lock(%s)", [PUBLISHER])
        with pytest.raises(MirrorError, match="Another publish"):
            publish(mirrored.home)


class Reader(threading.Thread):
    """Asks for the whole of the tier again and again; keeps what it saw and what failed."""

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__()
        self.connection = connection
        self.seen: list[tuple[int, int]] = []
        self.errors: list[Exception] = []
        self.slowest = 0.0
        self.is_done = threading.Event()

    def run(self) -> None:
        while not self.is_done.is_set():
            started = time.monotonic()
            try:
                row = self.connection.execute(
                    "select sum(n)::int, max(n)::int from (select subject_key, count(*) n from fct_visit"
                    " join dim_subject using (subject_key) group by 1) g"
                ).fetchone()
                assert row is not None
                self.seen.append((row[0], row[1]))
            except Exception as error:
                self.errors.append(error)
                return
            self.slowest = max(self.slowest, time.monotonic() - started)


@pytest.mark.slow
def test_readers_see_no_error_and_no_mixture_during_ten_publishes(own: Home, spare: Server) -> None:
    write_release(own, "2026-11-24.1", subjects=500, visits=100)
    add_user(own, User("reader", "registered"))
    publish(own)
    with connect() as admin:
        password, _ = issue_password(admin, "reader")
    readers = [Reader(spare.connect("reader", password, database_of(own))) for _ in range(2)]
    for reader in readers:
        reader.start()
    expected = {(500 * 100, 100)}
    for number in range(2, 12):
        visits = 100 + number
        write_release(own, f"2026-11-24.{number}", subjects=500 - number, visits=visits)
        expected.add(((500 - number) * visits, visits))
        publish(own)
    for reader in readers:
        reader.is_done.set()
        reader.join(30)
    assert [reader.errors for reader in readers] == [[], []]
    seen = {pair for reader in readers for pair in reader.seen}
    assert seen <= expected
    assert len(seen) > 5
    sys.stdout.write(
        f"reads {[len(reader.seen) for reader in readers]}, slowest {[round(r.slowest, 2) for r in readers]} s\n"
    )


PUBLISH = """
import sys
from pathlib import Path
from warehouse.home import Home
from warehouse.mirror.publish import publish
sys.stdout.write("go\\n"); sys.stdout.flush()
publish(Home(Path(sys.argv[1])))
"""


def start_publish(home: Home, server: Server) -> subprocess.Popen[bytes]:
    """A publish in a process of its own, which is about to begin when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(home.root)],
        env=os.environ | server.environment, cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    return process


@pytest.mark.slow
def test_a_publish_killed_at_any_point_leaves_a_whole_release(own: Home, spare: Server) -> None:
    write_release(own, "2026-11-24.1", subjects=1000, visits=150)
    publish(own)
    database = database_of(own)
    write_release(own, "2026-11-24.2", subjects=1000, visits=151)
    started = time.monotonic()
    assert start_publish(own, spare).wait(120) == 0
    length = time.monotonic() - started
    left_over = 0
    for point in range(10):
        version = point + 3
        old, new = 1000 * (148 + version), 1000 * (149 + version)
        write_release(own, f"2026-11-24.{version}", subjects=1000, visits=149 + version)
        process = start_publish(own, spare)
        time.sleep(length * (point + 0.5) / 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with spare.admin(database) as admin:
            assert admin.execute("select version, (select count(*) from fct_visit) from mirror.release").fetchone() in (
                (f"2026-11-24.{version - 1}", old),
                (f"2026-11-24.{version}", new),
            )
            left_over += admin.execute("select to_regnamespace('release_next')").fetchone() != (None,)
        publish(own)
        with spare.admin(database) as admin:
            assert admin.execute("select to_regnamespace('release_next')").fetchone() == (None,)
        compared, wrong = verify(own)
        assert not wrong
        assert [c.rows_mirror for c in compared if c.is_equal] == [1000, new]
    assert left_over >= 3  # the points do fall into the load


@pytest.mark.slow
def test_a_reader_who_sits_on_a_table_does_not_stop_a_publish(own: Home, spare: Server, tmp_path: Path) -> None:
    home = make_home(tmp_path / "impatient", seconds=2)
    write_release(home, "2026-11-24.1", subjects=5, visits=2)
    publish(home)
    sitting = spare.admin(database_of(home))
    sitting.execute("begin")
    sitting.execute("select count(*) from fct_visit")
    write_release(home, "2026-11-24.2", subjects=5, visits=3)
    publish(home)
    with pytest.raises(psycopg.OperationalError):
        sitting.execute("select 1")
    with spare.admin(database_of(home)) as admin:
        assert admin.execute("select count(*) from fct_visit").fetchone() == (15,)


@pytest.mark.slow
def test_what_the_release_has_no_file_for_is_dropped(own: Home, spare: Server) -> None:
    write_release(own, "2026-11-24.1", subjects=5, visits=2)
    (own.current_release / "controlled").mkdir()
    (own.current_release / "controlled" / "lesions.duckdb").write_bytes(
        (own.current_release / "registered.duckdb").read_bytes()
    )
    publish(own)
    gone = next(state.database for state in statuses(own) if state.target == Target("controlled", project="lesions"))
    with spare.admin(gone) as admin:
        assert admin.execute("select count(*) from fct_visit").fetchone() == (10,)
    write_release(own, "2026-11-24.2", subjects=5, visits=2)
    assert publish(own).dropped == [Target("controlled", project="lesions")]
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        spare.admin(gone)
    with spare.admin("postgres") as admin:
        assert admin.execute("select count(*) from pg_roles where rolname = %s", [gone]).fetchone() == (0,)
