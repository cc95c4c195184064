"""Tier users as roles of the server: what `ranvier user` grants is what they can connect to.

Here: making, granting and closing roles, passwords that are shown once. Not here: who is granted what
(`warehouse.users`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from warehouse.errors import MirrorError
from warehouse.home import Home
from warehouse.mirror.databases import Target, list_databases
from warehouse.mirror.server import USERS, Connection
from warehouse.projects import is_answered
from warehouse.users import User, list_users

PASSWORD_BYTES = 24
"""192 random bits: a stolen SCRAM verifier is of no use."""


def sync_users(admin: Connection, home: Home) -> list[str]:
    """Make the roles as the grants say; returns names that are taken by a role of somebody else.

    Who holds no grant any more cannot log in, is in no group, and their sessions are ended.
    """
    databases = list_databases(admin)
    wanted: dict[str, dict[str, User]] = {}
    for user in list_users(home):
        database = databases.get(Target(user.tier, user.site, user.project))
        is_over = user.project is not None and not is_answered(home, user.project)
        if user.holds() and database and not is_over:
            wanted.setdefault(user.name, {})[database] = user
    connections = home.network().mirror.connections
    members = {name for (name,) in admin.execute("select rolname from pg_roles where pg_has_role(oid, %s, 'member')"
                                                 " and not rolsuper and rolname <> %s", [USERS, USERS])}  # fmt: skip
    taken = {
        name for (name,) in admin.execute("select rolname from pg_roles where rolname = any(%s)", [list(wanted)])
    } - members
    for name in sorted(members - set(wanted)):
        _close(admin, name)
    for name in sorted(set(wanted) - taken):
        _open(admin, name, wanted[name], connections, is_new=name not in members)
    return sorted(taken)


def _groups(admin: Connection, name: str) -> set[str]:
    rows = admin.execute(
        "select held.rolname from pg_auth_members join pg_roles held on held.oid = roleid"
        " join pg_roles person on person.oid = member where person.rolname = %s and held.rolname <> %s",
        [name, USERS],
    ).fetchall()
    return {group for (group,) in rows}


def _open(admin: Connection, name: str, grants: dict[str, User], connections: int, *, is_new: bool) -> None:
    role = sql.Identifier(name)
    with admin.transaction():
        if is_new:
            admin.execute(sql.SQL("create role {} in role {}").format(role, sql.Identifier(USERS)))
        days = [user.until for user in grants.values()]
        last = None if None in days else max(day for day in days if day)
        until = f"{last + timedelta(days=1)} 00:00:00+00" if last else "infinity"
        admin.execute(
            sql.SQL(
                "alter role {} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls inherit"
                " connection limit {} valid until {}"
            ).format(role, sql.Literal(connections), sql.Literal(until))
        )
        held = _groups(admin, name)
        for group in sorted(held - set(grants)):
            admin.execute(sql.SQL("revoke {} from {}").format(sql.Identifier(group), role))
        for group in sorted(set(grants) - held):
            admin.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), role))
    for group in held - set(grants):
        _end_sessions(admin, name, group)


def _close(admin: Connection, name: str) -> None:
    role = sql.Identifier(name)
    with admin.transaction():
        admin.execute(sql.SQL("alter role {} nologin password null").format(role))
        for group in _groups(admin, name):
            admin.execute(sql.SQL("revoke {} from {}").format(sql.Identifier(group), role))
    _end_sessions(admin, name, None)


def _end_sessions(admin: Connection, name: str, database: str | None) -> None:
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s"
        " and (%s::text is null or datname = %s)",
        [name, database, database],
    )


@dataclass(frozen=True)
class Member:
    """A user of the mirror."""

    user: str
    can_log_in: bool
    has_password: bool
    tiers: list[str]


def list_members(admin: Connection) -> list[Member]:
    """Users of the mirror: whether they can log in, and to what."""
    rows = admin.execute(
        "select rolname, rolcanlogin, rolpassword is not null from pg_authid"
        " where pg_has_role(oid, %s, 'member') and not rolsuper and rolname <> %s order by 1",
        [USERS, USERS],
    ).fetchall()
    named = {database: str(target) for target, database in list_databases(admin).items()}
    return [
        Member(
            name,
            can_log_in and has_password,
            has_password,
            sorted(named[group] for group in _groups(admin, name) if group in named),
        )
        for name, can_log_in, has_password in rows
    ]


def issue_password(admin: Connection, name: str) -> tuple[str, list[tuple[Target, str]]]:
    """Give a user a new random password. Returned this once, with what it opens; the server keeps a verifier.

    Raises MirrorError when the mirror has no such user.
    """
    known = {member.user for member in list_members(admin)}
    groups = _groups(admin, name) if name in known else set()
    if not groups:
        raise MirrorError(
            f"The mirror has no user {name[:63]!r} with a grant that holds; give one with: ranvier user add, then"
            " ranvier mirror postgres --publish"
        )
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    # The verifier is made on this side: the password is in no statement, so in no log.
    verifier = admin.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(name), sql.Literal(verifier)))
    return password, [(target, database) for target, database in list_databases(admin).items() if database in groups]
