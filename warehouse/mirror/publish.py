"""Puts the current release into the mirror, one database after the other, each in one step for its readers.

Here: which databases need it, the swap under readers. Not here: filling (`warehouse.mirror.load`), comparing
(`warehouse.mirror.verify`).

The old tables are locked, dropped and replaced in one transaction. So a reader's statement sees one release whole, and
a subject who withdrew is gone at that moment, from the tables and from their statistics.

We lock table by table. While we wait for the first we hold nothing, so nobody can wait for us in a circle, and new
readers queue behind us: it may take as long as the readers before us need. While we wait for a further one, a reader in
it could wait for one that we hold; the server would break such a circle after a second by ending a reader. We give up
sooner, let everyone through, and begin with the table that we could not have.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from warehouse import lake, releases
from warehouse.errors import MirrorError
from warehouse.home import Home
from warehouse.mirror.databases import (
    BOOKS,
    NEXT,
    SCHEMA,
    Target,
    drop_database,
    ensure_database,
    list_databases,
    read_state,
    tier_files,
)
from warehouse.mirror.load import fill
from warehouse.mirror.people import sync_users
from warehouse.mirror.server import ADMIN, Connection, connect, problems
from warehouse.work import Progress, silent

FIRST_WAIT = 2.0
"""Seconds for the first table; twice as long each time it was not enough."""
FURTHER_WAIT = 0.5
"""Seconds for all other tables together; PostgreSQL ends a reader to break a circle after 1 s."""
PAUSE = 0.2
PATIENT_TRIES = 40
BUSY = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
)
PUBLISHER = 7_264_268
"""Advisory lock of the one publisher, in the mirror's own database, where no user can take it."""


@dataclass(frozen=True)
class Published:
    """What happened to one database."""

    target: Target
    database: str
    rows: int
    seconds: float
    is_new: bool
    """False when it held this release already."""


@dataclass(frozen=True)
class Outcome:
    """What a publish did."""

    version: str
    databases: list[Published]
    dropped: list[Target]
    names_taken: list[str]
    """Users who have no role because somebody else's role has their name."""


def publish(home: Home, say: Progress = silent, *, again: bool = False) -> Outcome:
    """Make every database of the mirror hold the current release; one that does already is left alone.

    With `again` it is loaded anyway, which repairs what somebody has changed on the server. Databases
    whose file the release does not have any more are dropped with all they hold.

    Raises
    ------
    MirrorError
        The server is not ready, another publish runs, or a step failed. Databases done before keep the new release,
        the others the old one; the next publish goes on from there.
    ReleaseError
        There is no release yet.
    """
    folder = releases.release_folder(home)
    files = tier_files(folder)
    seconds = home.network().mirror.seconds
    done = []
    with connect(ADMIN) as admin:
        if found := problems(admin):
            raise MirrorError("The server is not ready to hold data. " + " ".join(found))
        if admin.execute("select pg_try_advisory_lock(%s)", [PUBLISHER]).fetchone() != (True,):
            raise MirrorError("Another publish is running on this server; wait for it, then run this again")
        _require_same_network(admin, home)
        sync_users(admin, home)  # who may not see it any more is out before the new release is in
        dropped = [target for target in list_databases(admin) if target not in files]
        for target in dropped:
            drop_database(admin, list_databases(admin)[target])
        for target, path in files.items():
            started = time.monotonic()
            database = ensure_database(admin, target, seconds)
            digest = lake.sha256_file(path)
            state = read_state(database, target)
            if (state.version, state.sha256) == (folder.name, digest) and not again:
                done.append(Published(target, database, 0, 0.0, False))
                continue
            with connect(database) as connection:
                tables = fill(connection, path, database, target, say)
                swap(connection, database, folder.name, digest, seconds)
            rows = sum(table.rows for table in tables)
            done.append(Published(target, database, rows, time.monotonic() - started, True))
        taken = sync_users(admin, home)
    return Outcome(folder.name, done, dropped, taken)


def _require_same_network(admin: Connection, home: Home) -> None:
    """A release of another network would have all databases of this one dropped."""
    name = home.network().name
    row = admin.execute("select name from public.network").fetchone()
    if row is None:
        admin.execute("insert into public.network values (true, %s)", [name])
    elif row[0] != name:
        raise MirrorError(
            f"This server mirrors another network, {row[0]!r}; check PGHOST and --home. If this one was renamed, run in"
            f" the database {ADMIN}: update public.network set name = '<the new name>'"
        )


def swap(connection: Connection, database: str, version: str, sha256: str, seconds: float) -> None:
    """Replace what readers see by `release_next`, in one transaction; the old tables are gone with it.

    Raises
    ------
    MirrorError
        Readers held the tables all the time.
    """
    order = _tables(connection)
    wait = FIRST_WAIT
    deadline = time.monotonic() + 4 * seconds + PATIENT_TRIES
    for attempt in range(1_000_000):
        held = _swap_once(connection, database, version, sha256, order, wait)
        if len(held) == len(order):
            return
        if time.monotonic() > deadline:
            break
        if not held:
            # A reader's own limit runs while it queues behind us, so we do not take all of it.
            wait = min(2 * wait, max(FIRST_WAIT, seconds / 2))
        order.insert(0, order.pop(len(held)))
        time.sleep(PAUSE)
        if attempt >= PATIENT_TRIES or wait >= seconds / 2:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and clock_timestamp() - xact_start > make_interval(secs => %s)",
                [seconds],
            )
    raise MirrorError("Readers held the old release's tables all the time; it is still served. Publish again later")


def _tables(connection: Connection) -> list[str]:
    rows = connection.execute(
        "select relname from pg_class where relnamespace = to_regnamespace(%s) and relkind = 'r' order by 1", [SCHEMA]
    )
    return [name for (name,) in rows]


def _lock(connection: Connection, order: list[str], wait: float) -> list[str]:
    """Lock tables in this order, until one is not to be had in time; those that were."""
    until = float("inf")
    for place, name in enumerate(order):
        left = wait if place == 0 else until - time.monotonic()
        limit = max(1, int(left * 1000))
        try:
            connection.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(limit)))
            connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(SCHEMA, name)))
        except BUSY:
            return order[:place]
        if place == 0:
            until = time.monotonic() + FURTHER_WAIT
    return order


def _swap_once(
    connection: Connection, database: str, version: str, sha256: str, order: list[str], wait: float
) -> list[str]:
    """Swap if every table can be locked; the tables that could."""
    group = sql.Identifier(database)
    old, new = sql.Identifier(SCHEMA), sql.Identifier(NEXT)
    with connection.transaction():
        held = _lock(connection, order, wait)
        if len(held) < len(order):
            raise psycopg.Rollback
        connection.execute("set local statement_timeout = 0")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(old))
        connection.execute(sql.SQL("alter schema {} rename to {}").format(new, old))
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(old, group))
        connection.execute(
            sql.SQL("comment on schema {} is {}").format(old, sql.Literal(f"Release {version} of the warehouse."))
        )
        connection.execute(f"delete from {BOOKS}.release")
        connection.execute(f"insert into {BOOKS}.release values (%s, %s, %s)", [version, sha256, datetime.now(UTC)])
    return held
