"""The databases of the mirror: one per tier file, closed to everyone but its own group.

Here: which files a release has, which database mirrors which, what everyone loses there. Not here: filling them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import sql

from warehouse.errors import MirrorError
from warehouse.home import Home
from warehouse.mirror.server import ADMIN, Connection, connect, hardening

SCHEMA = "release"
"""Schema that users read."""
NEXT = "release_next"
"""Schema that is being filled."""
BOOKS = "mirror"
"""Schema that tells which release a database holds."""


@dataclass(frozen=True)
class Target:
    """What a database mirrors: a tier, a site's or a project's part of one."""

    tier: str
    site: str | None = None
    project: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.tier, self.site, self.project) if part)


@dataclass(frozen=True)
class State:
    """A database and the release it holds; no version before the first publish."""

    database: str
    target: Target
    version: str | None = None
    sha256: str | None = None
    published: datetime | None = None
    names: frozenset[str] = field(default=frozenset(), repr=False)
    """Tables and columns, in lower case."""


def tier_files(folder: Path) -> dict[Target, Path]:
    """Files of a release's folder, by what they hold."""
    files = {Target(path.stem): path for path in sorted(folder.glob("*.duckdb"))}
    files |= {Target("site", site=path.stem): path for path in sorted(folder.glob("site/*.duckdb"))}
    files |= {Target("controlled", project=path.stem): path for path in sorted(folder.glob("controlled/*.duckdb"))}
    return files


def list_databases(admin: Connection) -> dict[Target, str]:
    """Databases the mirror has made, by what they hold."""
    rows = admin.execute(
        "select database, tier, site, project from public.tier_database join pg_database on datname = database"
        " order by tier, site, project"
    ).fetchall()
    return {Target(tier, site, project): database for database, tier, site, project in rows}


def ensure_database(admin: Connection, target: Target, seconds: float) -> str:
    """The database of a target, made and closed when it is not there; its rights are set anew in any case.

    Its name is random: everyone on a server sees the names of all databases, and a site's or project's would tell.
    """
    row = admin.execute(
        "insert into public.tier_database as held values (%s, %s, %s, %s)"
        " on conflict (tier, site, project) do update set tier = held.tier returning database",
        [f"ranvier_{secrets.token_hex(4)}", target.tier, target.site, target.project],
    ).fetchone()
    assert row is not None
    name = sql.Identifier(row[0])
    if not admin.execute("select 1 from pg_roles where rolname = %s", [row[0]]).fetchone():
        admin.execute(sql.SQL("create role {} nologin").format(name))
    if not admin.execute("select 1 from pg_database where datname = %s", [row[0]]).fetchone():
        # C: text sorts and compares by its bytes, as DuckDB does.
        admin.execute(sql.SQL("create database {} template template0 encoding 'UTF8' locale 'C'").format(name))
    admin.execute(sql.SQL("revoke all on database {} from public").format(name))
    admin.execute(sql.SQL("grant connect on database {} to {}").format(name, name))
    settings = hardening().database | {"statement_timeout": f"{seconds * 1000:.0f}ms"}
    for setting, value in settings.items():
        admin.execute(
            sql.SQL("alter database {} set {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
        )
    _close(row[0])
    return str(row[0])


def _close(database: str) -> None:
    """Take from everyone what tells of other databases or writes; nothing here is lost by a dump."""
    with connect(database) as connection, connection.transaction():
        connection.execute("drop schema if exists public cascade")
        connection.execute("revoke usage on language plpgsql, sql from public")
        for relation in hardening().relations:
            connection.execute(sql.SQL("revoke all on {} from public").format(sql.Identifier("pg_catalog", relation)))
        functions = hardening().functions
        rows = connection.execute(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'pg_catalog'::regnamespace"
            " and (proname like any(%s) or oid = any(%s::regprocedure[]))",
            [[f for f in functions if "(" not in f], [f for f in functions if "(" in f]],
        ).fetchall()
        for (signature,) in rows:
            connection.execute(f"revoke execute on function {signature} from public")
        connection.execute(f"create schema if not exists {BOOKS}")
        connection.execute(
            f"create table if not exists {BOOKS}.release (version text not null, sha256 text not null,"
            " published timestamptz not null)"
        )
        connection.execute(f"comment on table {BOOKS}.release is 'The release this database holds; cite its version.'")
        group = sql.Identifier(database)
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(BOOKS), group))
        connection.execute(sql.SQL("grant select on {} to {}").format(sql.Identifier(BOOKS, "release"), group))


def read_state(database: str, target: Target) -> State:
    """The release a database holds."""
    with connect(database) as connection:
        if connection.execute("select to_regclass(%s)", [f"{BOOKS}.release"]).fetchone() == (None,):
            return State(database, target)
        row = connection.execute(f"select version, sha256, published from {BOOKS}.release").fetchone()
        names = connection.execute(
            "select relname from pg_class where relnamespace = to_regnamespace(%s) union select attname from"
            " pg_attribute join pg_class on attrelid = pg_class.oid where relnamespace = to_regnamespace(%s)",
            [SCHEMA, SCHEMA],
        ).fetchall()
    version, sha256, published = row or (None, None, None)
    return State(database, target, version, sha256, published, frozenset(name.lower() for (name,) in names))


def drop_database(admin: Connection, database: str) -> None:
    """Remove a database that mirrors nothing any more, and its group."""
    name = sql.Identifier(database)
    admin.execute(sql.SQL("drop database if exists {} with (force)").format(name))
    admin.execute(sql.SQL("drop role if exists {}").format(name))
    admin.execute("delete from public.tier_database where database = %s", [database])


def database_of(admin: Connection, target: Target) -> str:
    """Raises MirrorError when the mirror has no database for it."""
    found = list_databases(admin).get(target)
    if found is None:
        raise MirrorError(f"The mirror has no database for {target}; run: ranvier mirror postgres --publish")
    return found


def statuses(home: Home) -> list[State]:
    """Every database of the mirror and the release it holds."""
    with connect(ADMIN) as admin:
        return [read_state(database, target) for target, database in list_databases(admin).items()]
