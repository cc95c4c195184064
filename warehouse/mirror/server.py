"""The administrator's connections to the server, and what a server must be before it holds any data.

Here: connecting, the server's settings, the check of its pg_hba.conf. Not here: databases of tiers and their people.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from warehouse.errors import MirrorError

Connection = psycopg.Connection[TupleRow]

ADMIN = "ranvier_mirror"
"""Database of the mirror's own books; no tier user may connect to it."""
USERS = "ranvier_users"
"""Role that every tier user is a member of; pg_hba.conf names it."""
OLDEST = 150000
"""PostgreSQL 15: the version all of this was proven on; older ones let everyone create tables in `public`."""

NOT_SUPERUSER = (
    "PGUSER is not a superuser of the server; taking catalogue rights away and reading the statement log need one. Give"
    " the mirror a server of its own"
)

# The tiers' databases are set up for readers. Our own statements carry verifiers of passwords: they stay out of the
# log.
# A killed publish is noticed within a second, so that its successor does not wait for what it left running.
OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "log_statement=none",
        "default_transaction_read_only=off",
        "statement_timeout=0",
        "idle_in_transaction_session_timeout=0",
        "temp_file_limit=-1",
        "client_connection_check_interval=1000",
        "search_path=pg_catalog",
    )
)

HBA = f"""\
# Ranvier: members of {USERS} come over TLS with a password, and in no other way. Keep this block at the top.
hostssl    all  +{USERS}  all  scram-sha-256
hostnossl  all  +{USERS}  all  reject
local      all  +{USERS}       reject
"""


@dataclass(frozen=True)
class Hardening:
    """What `hardening.yaml` says."""

    server: dict[str, str]
    database: dict[str, str]
    relations: list[str]
    functions: list[str]


@lru_cache(maxsize=1)
def hardening() -> Hardening:
    """Settings and revoked rights, from `hardening.yaml`."""
    return Hardening(**yaml.safe_load((Path(__file__).parent / "hardening.yaml").read_text(encoding="utf-8")))


def conninfo(database: str) -> str:
    """What libpq is told beside its environment: the database, and TLS unless PGSSLMODE says how."""
    # `prefer`, libpq's own default, would send the password over a plain connection when the server offers no other.
    more = {} if os.environ.get("PGSSLMODE") else {"sslmode": "require"}
    return make_conninfo(
        dbname=database, application_name="ranvier mirror", options=OPTIONS, connect_timeout=15, **more
    )


@contextmanager
def connect(database: str = ADMIN) -> Iterator[Connection]:
    """A connection of the administrator's, in autocommit.

    Raises
    ------
    MirrorError
        The server does not answer or does not let us in, the mirror is not set up, or a step failed. The text names no
        value and no secret.
    """
    try:
        connection = psycopg.connect(conninfo(database), autocommit=True)
    except psycopg.OperationalError as error:
        if database == ADMIN and "does not exist" in str(error):
            raise MirrorError("The mirror is not set up on this server; run: ranvier mirror postgres --init") from None
        if "permission denied to set parameter" in str(error):
            raise MirrorError(NOT_SUPERUSER) from None
        raise MirrorError(
            "The PostgreSQL server does not answer or does not let us in; set PGHOST, PGPORT, PGUSER and PGPASSWORD (or"
            f" a password file) to the server and its administrator. It says: {_first_line(error)}"
        ) from None
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        name = f"{type(error).__name__} {error.sqlstate or ''}".strip()
        raise MirrorError(
            f"The PostgreSQL server did not do a step ({name}); what is served is unchanged. Correct it and run the"
            " same command again"
        ) from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def require_administrator(connection: Connection) -> None:
    """Raises MirrorError unless we are a superuser of a server that is new enough."""
    if connection.info.server_version < OLDEST:
        raise MirrorError("The server is older than PostgreSQL 15; the mirror needs 15 or newer")
    row = connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
    if not row or not row[0]:
        raise MirrorError(NOT_SUPERUSER)


def set_up(connection: Connection) -> None:
    """Give the server its settings and the mirror its books; again, it changes nothing."""
    require_administrator(connection)
    for name, value in hardening().server.items():
        if connection.execute("select current_setting(%s)", [name]).fetchone() != (value,):
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    connection.execute("select pg_reload_conf()")
    if not connection.execute("select 1 from pg_roles where rolname = %s", [USERS]).fetchone():
        connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(USERS)))
    if not connection.execute("select 1 from pg_database where datname = %s", [ADMIN]).fetchone():
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(ADMIN)))
    for database in (ADMIN, "postgres", "template1"):
        if connection.execute("select 1 from pg_database where datname = %s", [database]).fetchone():
            connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(database)))
    with connect(ADMIN) as admin:
        admin.execute(
            "create table if not exists public.tier_database (database text primary key, tier text not null, site text,"
            " project text, unique nulls not distinct (tier, site, project))"
        )
        admin.execute(
            "create table if not exists public.log_position (file text primary key, first_bytes text not null,"
            " position bigint not null)"
        )
        admin.execute("create table if not exists public.network (only_row boolean primary key, name text not null)")
        admin.execute(
            "create table if not exists public.watch (only_row boolean primary key, seen timestamptz not null)"
        )


def problems(connection: Connection) -> list[str]:
    """What the operator must change before the server may hold data; empty when nothing."""
    found = []
    if connection.execute("select current_setting('ssl')").fetchone() != ("on",):
        found.append("TLS is off: set ssl = on, ssl_cert_file and ssl_key_file in postgresql.conf, and restart")
    waiting = [name for (name,) in connection.execute("select name from pg_settings where pending_restart order by 1")]
    wrong = [
        name
        for name, value in hardening().server.items()
        if name not in waiting and connection.execute("select current_setting(%s)", [name]).fetchone() != (value,)
    ]
    if waiting:
        found.append(f"Restart the server: {', '.join(waiting)} changed and waits for it")
    if wrong:
        found.append(f"Take {', '.join(wrong)} out of postgresql.conf or the server's command line: it overrides ours")
    others = connection.execute(
        "select datname from pg_database where datallowconn and has_database_privilege('public', oid, 'connect')"
        " and datname not in ('postgres', 'template1') order by 1"
    ).fetchall()
    if others:
        found.append(
            f"Everyone may connect to {', '.join(name for (name,) in others)}: revoke connect from public there, or"
            " give the mirror a server of its own"
        )
    return found + _hba_problems(connection)


def _hba_problems(connection: Connection) -> list[str]:
    rules = connection.execute(
        "select type, database, user_name, address, auth_method, error from pg_hba_file_rules order by line_number"
    ).fetchall()
    if any(error for *_, error in rules):
        return ["pg_hba.conf has a line that the server cannot read; see: select * from pg_hba_file_rules"]
    ways = {"tls": ("hostssl", "host"), "plain": ("hostnossl", "host"), "socket": ("local",)}
    allowed = {"tls": ("scram-sha-256", "reject"), "plain": ("reject",), "socket": ("reject",)}
    for way, types in ways.items():
        matching = [rule for rule in rules if rule[0] in types]
        if not _is_closed(matching, allowed[way], needed=way == "tls"):
            return [
                "pg_hba.conf must let tier users in over TLS with a password only: put these lines at its top, then"
                f" run select pg_reload_conf():\n{HBA}"
            ]
    return []


def _is_closed(rules: list[Any], methods: tuple[str, ...], *, needed: bool) -> bool:
    """Whether the rules that meet a tier user, up to the one that is for all of them, use these methods only."""
    for _, databases, users, address, method, _ in rules:
        if not {"all", f"+{USERS}"} & set(users) and not any(user.startswith("/") for user in users):
            continue
        if method not in methods:
            return False
        if f"+{USERS}" in users and databases == ["all"] and address in ("all", None):
            return True
    return not needed
