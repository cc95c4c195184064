"""`ranvier project`: who has a file of the controlled tier, for what, until when."""

import json
import sys
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.errors import HomeError
from warehouse.home import find_home

app = typer.Typer(no_args_is_help=True, help="Approved projects: each has a file of its own in every release.")


@app.command("add")
def project_add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and '_', such as fatigue.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What consent must cover; may be given again: share_research, imaging, share_outside_eu, commercial."
        ),
    ],
    until: Annotated[str, typer.Option(help="Last day, as 2027-12-31.")],
    home: HomeOption = None,
    title: Annotated[str, typer.Option(help="What the project is about.")] = "",
) -> None:
    """Add a project. Example: ranvier project add fatigue --scope share_research --scope imaging --until 2027-12-31"""
    from warehouse.projects import Project, add_project

    try:
        last = date.fromisoformat(until)
    except ValueError as error:
        raise HomeError(f"{until[:20]!r} is no day; write it as 2027-12-31") from error
    add_project(find_home(home), Project(name, tuple(dict.fromkeys(scope)), last, title))
    out.print(f"Added {name}; the next release holds controlled/{name}.duckdb. Make it with: ranvier run")


@app.command("list")
def project_list(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List projects, closed and expired ones too. Example: ranvier project list"""
    from warehouse.projects import list_projects

    place = find_home(home)
    place.network()
    today = datetime.now(UTC).date()
    rows = [
        {
            "name": p.name,
            "scope": list(p.scope),
            "until": p.until.isoformat(),
            "state": "closed" if p.is_closed else "active" if p.is_active(today) else "expired",
            "title": p.title,
        }
        for p in list_projects(place)
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
        return
    if not rows:
        out.print("There is no project yet; add one with: ranvier project add NAME --scope share_research --until DAY")
        return
    table = Table("name", "scope", "until", "state", "title")
    for row in rows:
        table.add_row(*(", ".join(cell) if isinstance(cell, list) else cell for cell in row.values()))
    out.print(table)


@app.command("close")
def project_close(name: str, home: HomeOption = None) -> None:
    """Close a project before its last day. Example: ranvier project close fatigue"""
    from warehouse.projects import close_project

    close_project(find_home(home), name)
    out.print(f"Closed {name}: it is answered no more, and the next release has no file of it.")
