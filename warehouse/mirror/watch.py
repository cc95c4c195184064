"""The watchdog: ends what takes too long and writes what was asked into the audit log.

Here: reading the server's statement log and ending statements, until told to stop. Not here: the audit log itself
(`warehouse.audit`).

A user may raise `statement_timeout`; PostgreSQL lets everyone. So the limit is kept from outside, by the
administrator's connection. Statements come from the server's own JSON log, which a user cannot turn off: a look at
`pg_stat_activity` now and then would miss the short ones. The log is read through the server, from where the last watch
stopped, so nothing is lost while no watch runs (the server keeps a week).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from warehouse import audit
from warehouse.home import Home
from warehouse.mirror.databases import State, Target, list_databases, read_state
from warehouse.mirror.people import sync_users
from warehouse.mirror.server import ADMIN, USERS, Connection, connect, require_administrator
from warehouse.statement import LONGEST

POLL = 1.0
"""Seconds between two looks."""
PERSON_SECONDS = 30.0
"""Seconds after which a revoked or expired grant is noticed."""
GRACE = 5.0
"""Seconds a cancelled statement has before its session is ended."""
CHUNK = 1 << 20
WHAT = re.compile(r"^(?:statement|execute [^:]*|execute fetch from [^:]*|fastpath function call): ", re.DOTALL)
HEAD = 128
"""First bytes of a log file: they hold its time, so an overwritten file is known as another."""


@dataclass
class Watch:
    """What the watchdog remembers between two looks."""

    home: Home
    seconds: float
    say: Callable[[str], None]
    administrator: str
    cancelled: dict[tuple[int, datetime], float] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    people_seen: float = float("-inf")


def watch(home: Home, say: Callable[[str], None], *, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Watch until `is_stopped`.

    Raises
    ------
    MirrorError
        The server does not answer or is not set up. Start it again; it goes on where it stopped.
    RanvierError
        The audit log cannot be written. The statements stay in the server's log until it can.
    """
    with connect(ADMIN) as admin:
        require_administrator(admin)
        watcher = Watch(home, home.network().mirror.seconds, say, admin.info.user)
        while True:
            look(watcher, admin)
            if is_stopped():
                break
            time.sleep(POLL)
        read_log(watcher, admin)


def look(watcher: Watch, admin: Connection) -> None:
    """One look: people, statements over the limit, the log."""
    now = time.monotonic()
    if now - watcher.people_seen >= PERSON_SECONDS:
        for name in sync_users(admin, watcher.home):
            watcher.say(f"{name} has no role: a role with that name is there already and is not ours")
        watcher.people_seen = now
        watcher.states = {database: read_state(database, target) for target, database in list_databases(admin).items()}
    end_overtime(watcher, admin)
    read_log(watcher, admin)
    admin.execute(
        "insert into public.watch values (true, clock_timestamp()) on conflict (only_row) do update"
        " set seen = excluded.seen"
    )


def end_overtime(watcher: Watch, admin: Connection) -> None:
    """Cancel each statement of a user that runs longer than the limit; end its session when that is not enough."""
    rows = admin.execute(
        "select pid, query_start, usename, datname, query from pg_stat_activity"
        " where backend_type = 'client backend' and datname = any(%s) and pg_has_role(usesysid, %s, 'member')"
        " and state in ('active', 'fastpath function call')"
        " and clock_timestamp() - query_start > make_interval(secs => %s)",
        [list(watcher.states), USERS, watcher.seconds],
    ).fetchall()
    now = time.monotonic()
    running = {}
    for pid, started, user, database, query in rows:
        first = watcher.cancelled.get((pid, started))
        running[pid, started] = first or now
        if first is not None and now - first < GRACE:
            continue
        admin.execute("select pg_cancel_backend(%s)" if first is None else "select pg_terminate_backend(%s)", [pid])
        if first is None:
            _append(watcher, database, user, query, "stopped: over the time limit", datetime.now(UTC))
            watcher.say(f"Ended a statement of {user} after {watcher.seconds:g} s")
    watcher.cancelled = running


def read_log(watcher: Watch, admin: Connection) -> None:
    """Append what the server has logged since the last time to the audit log, and remember how far it was read."""
    held = {file: (first, position) for file, first, position in admin.execute("select * from public.log_position")}
    files = admin.execute(
        "select name, size from pg_ls_logdir() where name like 'ranvier-%.json' order by modification, name"
    ).fetchall()
    for file, size in files:
        head = bytes(_read(admin, file, 0, HEAD))
        if len(head) < HEAD:
            continue
        first = hashlib.sha256(head).hexdigest()
        seen, position = held.get(file, (first, 0))
        if seen != first:
            position = 0
        while position < size:
            taken = _take(watcher, admin, file, position)
            if not taken:
                break
            position += taken
            admin.execute(
                "insert into public.log_position values (%s, %s, %s) on conflict (file) do update"
                " set first_bytes = excluded.first_bytes, position = excluded.position",
                [file, first, position],
            )


def _read(admin: Connection, file: str, start: int, length: int) -> bytes:
    row = admin.execute(
        "select pg_read_binary_file(current_setting('log_directory') || '/' || %s, %s, %s, true)", [file, start, length]
    ).fetchone()
    return bytes(row[0] or b"") if row else b""


def _take(watcher: Watch, admin: Connection, file: str, position: int) -> int:
    """Whole lines from here on, put into the audit log; how many bytes they are."""
    length = CHUNK
    while True:
        block = _read(admin, file, position, length)
        end = block.rfind(b"\n") + 1
        if end or len(block) < length:
            break
        length *= 4  # one statement of many megabytes
    for line in block[:end].splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the server was killed while it wrote the line
            continue
        _log(watcher, record)
    return end


def _log(watcher: Watch, record: dict[str, Any]) -> None:
    database, user = record.get("dbname"), record.get("user")
    # Ours are known by the role: a user could give their session any application_name.
    if database not in watcher.states or not user or user == watcher.administrator:
        return
    when = datetime.strptime(record["timestamp"], "%Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=UTC)
    code = str(record.get("state_code", ""))
    if record["error_severity"] == "LOG":
        message = str(record.get("message", ""))
        if found := WHAT.match(message):
            _append(watcher, database, user, message[found.end() :], "sent", when)
    elif record["error_severity"] in ("ERROR", "FATAL", "PANIC"):
        if code[:2] == "28" or (code == "42501" and not record.get("statement")):
            _append(watcher, database, user, "", "login refused", when)
        elif record.get("statement"):
            outcome = {"42501": "refused", "57014": "stopped", "57P01": "stopped"}.get(code, "failed")
            _append(watcher, database, user, str(record["statement"]), outcome, when)


def _append(watcher: Watch, database: str, user: str, statement: str, outcome: str, when: datetime) -> None:
    state = watcher.states.get(database) or State(database, Target("unknown"))
    audit.append(
        watcher.home,
        {
            "user": user,
            "via": "postgres",
            "tier": state.target.tier,
            "site": state.target.site,
            "project": state.target.project,
            "release": state.version,
            "statement": audit.without_literals(statement[:LONGEST], state.names)[:8000],
            "outcome": outcome,
            "asked_datetime": when.isoformat(timespec="milliseconds"),
        },
    )


def last_seen(admin: Connection) -> datetime | None:
    """When a watch last looked; None when none ever did."""
    row = admin.execute("select max(seen) from public.watch").fetchone()
    return row[0] if row else None
