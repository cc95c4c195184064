"""`ranvier mirror postgres`: the PostgreSQL server that mirrors the current release."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.errors import MirrorError, RanvierError
from warehouse.home import Home, find_home

app = typer.Typer(no_args_is_help=True, help="Copies of the current release on other servers.")


@app.callback()
def mirror() -> None:
    """Copies of the current release on other servers."""


@app.command()
def postgres(
    home: HomeOption = None,
    init: Annotated[bool, typer.Option("--init", help="Set the server up, and say what is missing.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Load the current release and the users.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Which database holds what, and who may connect.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every table with the release's files.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="End overlong statements and fill the audit log.")] = False,
    password: Annotated[str | None, typer.Option("--password", help="Give this user a new password.")] = None,
    again: Annotated[bool, typer.Option("--again", help="With --publish: load what is there already, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (status and verify).")] = False,
) -> None:
    """Mirror the release into PostgreSQL 15. Example: PGHOST=db.example ranvier mirror postgres --publish

    The server is named by libpq's variables: PGHOST, PGPORT, PGUSER (a superuser), PGPASSWORD or a password file,
    PGSSLMODE. In this order: --init once, --publish after each release, --watch always, --password for each new user.
    """
    chosen = [init, publish, status, verify, watch, password is not None]
    if sum(chosen) != 1:
        raise RanvierError(
            "Say one of --init, --publish, --status, --verify, --watch and --password NAME; begin with:"
            " ranvier mirror postgres --init"
        )
    place = find_home(home)
    place.network()
    if init:
        _init()
    elif publish:
        _publish(place, again)
    elif status:
        _status(place, as_json)
    elif verify:
        _verify(place, as_json)
    elif watch:
        _watch(place)
    else:
        _password(place, str(password))


def _init() -> None:
    import os

    from warehouse.mirror.server import connect, problems, set_up

    with connect(os.environ.get("PGDATABASE") or "postgres") as connection:
        set_up(connection)
        found = problems(connection)
    if found:
        for problem in found:
            out.print(f"- {problem}", markup=False, soft_wrap=True)
        raise MirrorError("The server is set up but not ready; do the above, then run this again")
    out.print("The server is ready. Next: ranvier mirror postgres --publish")


def _publish(home: Home, again: bool) -> None:
    from orchestration.progress import bars
    from warehouse.mirror.publish import publish

    with bars() as progress:
        outcome = publish(home, progress, again=again)
    for done in outcome.databases:
        what = f"{done.rows} rows in {done.seconds:.1f} s" if done.is_new else "holds it already"
        out.print(f"{done.target} ({done.database}): {what}", markup=False, soft_wrap=True)
    for target in outcome.dropped:
        out.print(f"{target}: dropped, the release has no such file", markup=False)
    for name in outcome.names_taken:
        out.print(f"{name} has no role: a role with that name is there already and is not ours", markup=False)
    out.print(f"The mirror holds {outcome.version}.")


def _status(home: Home, as_json: bool) -> None:
    import os

    from warehouse.mirror.databases import statuses
    from warehouse.mirror.people import list_members
    from warehouse.mirror.server import ADMIN, connect, problems
    from warehouse.mirror.watch import last_seen
    from warehouse.releases import current_version

    current = current_version(home)
    states = statuses(home)
    with connect(ADMIN) as admin:
        members, found, seen = list_members(admin), problems(admin), last_seen(admin)
    facts: dict[str, Any] = {
        "server": os.environ.get("PGHOST"),
        "current_release": current,
        "databases": [
            {
                "tier": state.target.tier,
                "site": state.target.site,
                "project": state.target.project,
                "database": state.database,
                "release": state.version,
                "published": state.published.isoformat() if state.published else None,
                "is_current": state.version == current,
            }
            for state in states
        ],
        "users": [asdict(member) for member in members],
        "problems": found,
        "watch_last_seen": seen.isoformat() if seen else None,
    }
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
        return
    table = Table("tier", "database", "release", "published")
    for state in states:
        when = f"{state.published:%Y-%m-%d %H:%M}" if state.published else ""
        mark = "*" if state.version == current else ""
        table.add_row(str(state.target), state.database, f"{state.version or 'none'}{mark}", when)
    out.print(table)
    people = Table("user", "may connect to", "password")
    for member in members:
        people.add_row(member.user, ", ".join(member.tiers), "yes" if member.has_password else "not yet")
    out.print(people)
    out.print(f"The watch last looked at {seen:%Y-%m-%d %H:%M:%S} UTC." if seen else "No watch has run yet.")
    for problem in found:
        out.print(f"- {problem}", markup=False, soft_wrap=True)


def _verify(home: Home, as_json: bool) -> None:
    from orchestration.progress import bars
    from warehouse.mirror.verify import verify

    with bars() as progress:
        compared, wrong = verify(home, progress)
    different = [c for c in compared if not c.is_equal]
    if as_json:
        rows = [
            {
                "target": str(c.target),
                "table": c.table,
                "rows_file": c.rows_file,
                "rows_mirror": c.rows_mirror,
                "is_equal": c.is_equal,
            }
            for c in compared
        ]
        sys.stdout.write(json.dumps({"tables": rows, "problems": wrong}, ensure_ascii=False, indent=1) + "\n")
    else:
        for c in different:
            out.print(f"{c.target} {c.table}: {c.rows_file} rows in the file, {c.rows_mirror} in the mirror, not equal")
        for problem in wrong:
            out.print(problem, markup=False)
    if different or wrong:
        raise MirrorError(
            f"{len(different)} of {len(compared)} tables differ, {len(wrong)} other problems; repair it with:"
            " ranvier mirror postgres --publish --again"
        )
    if not as_json:
        out.print(
            f"{len(compared)} tables are equal in count and content, in {len({c.target for c in compared})} databases."
        )


def _watch(home: Home) -> None:
    from warehouse.mirror.watch import watch

    console = Console(stderr=True)
    console.print("Watching; stop with Ctrl-C.")
    try:
        watch(home, lambda text: console.print(text, markup=False))
    except KeyboardInterrupt:
        console.print("Stopped. Statements until the next start are in the server's log and are read then.")


def _password(home: Home, name: str) -> None:
    import getpass
    import os

    from warehouse import audit
    from warehouse.mirror.people import issue_password
    from warehouse.mirror.server import ADMIN, connect

    with connect(ADMIN) as admin:
        audit.append(
            home, {"user": getpass.getuser(), "via": "postgres", "outcome": "password issued", "statement": name}
        )
        secret, databases = issue_password(admin, name)
        host, port = admin.info.host, admin.info.port
    out.print(f"Password of {name}, shown this once: {secret}", markup=False, soft_wrap=True)
    host = os.environ.get("PGHOST") or host
    for target, database in databases:
        out.print(
            f'{target}: psql "host={host} port={port} dbname={database} user={name} sslmode=verify-full"',
            markup=False,
            soft_wrap=True,
        )
