"""`ranvier audit`: who asked what, and whether the log of it is whole."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.errors import RanvierError
from warehouse.home import find_home

app = typer.Typer(no_args_is_help=True, help="The log of every question asked.")
TIMES = ["%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(
    home: HomeOption = None,
    anchor: Annotated[
        str | None, typer.Option(help="An anchor that was printed before and kept elsewhere: NUMBER:HASH.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the log from its first byte to its last: 0 whole, 1 changed or cut. Example: ranvier audit verify"""
    from warehouse import audit

    place = find_home(home)
    place.network()
    verdict = audit.verify(place, anchor)
    if as_json:
        found = {
            "is_whole": verdict.is_whole,
            "records_count": verdict.records,
            "anchor": verdict.anchor,
            "problems": verdict.problems,
            "notes": verdict.notes,
        }
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        for line in [*(f"Problem: {p}" for p in verdict.problems), *(f"Note: {n}" for n in verdict.notes)]:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        if verdict.is_whole:
            out.print(f"The log is whole: {verdict.records} records.")
        else:
            out.print(
                f"The log was changed or cut ({len(verdict.problems)} problems). Keep a copy of the audit folder,"
                " and compare it with your last backup.",
                soft_wrap=True,
            )
        if verdict.anchor:
            out.print(f"Anchor, to keep elsewhere: {verdict.anchor}", highlight=False, soft_wrap=True)
    if not verdict.is_whole:
        raise typer.Exit(1)


@app.command()
def search(
    home: HomeOption = None,
    user: Annotated[str | None, typer.Option(help="Who asked.")] = None,
    tier: Annotated[str | None, typer.Option(help="open, registered, controlled, site or steward.")] = None,
    site: Annotated[str | None, typer.Option(help="Code of the site whose file was asked.")] = None,
    project: Annotated[str | None, typer.Option(help="Project whose file was asked.")] = None,
    table: Annotated[str | None, typer.Option(help="A table or column that the statement names.")] = None,
    outcome: Annotated[str | None, typer.Option(help="answered, refused, abandoned, unfinished, no release.")] = None,
    since: Annotated[str | None, typer.Option(help="Time in UTC, such as 2026-11 or 2026-11-24T09:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Time in UTC; before it.")] = None,
    last: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List questions, the newest last. Example: ranvier audit search --user ann --table fct_visit --since 2026-11"""
    from warehouse import audit

    place = find_home(home)
    place.network()
    wanted = {"user": user, "tier": tier, "site": site, "project": project, "outcome": outcome}
    found = [
        entry
        for entry in audit.entries(place)
        if all(value is None or entry[name] == value for name, value in wanted.items())
        and (table is None or audit.names(entry, table))
        and _is_within(entry, _time(since), _time(until))
    ]
    shown = found[-last:]
    if as_json:
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        return
    _print(shown)
    left = f"; the newest {last} are shown, use --last for more" if len(found) > last else ""
    out.print(f"{len(found)} questions{left}")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    for form in TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise RanvierError(f"{text!r} is no time; write it as 2026-11, 2026-11-24 or 2026-11-24T09:00 (UTC)")


def _is_within(entry: dict[str, Any], since: datetime | None, until: datetime | None) -> bool:
    asked = datetime.fromisoformat(entry["asked_datetime"])
    return (since is None or asked >= since) and (until is None or asked < until)


def _print(entries: list[dict[str, Any]]) -> None:
    if out.width >= 110:
        table = Table("asked (UTC)", "user", "tier", "release", "outcome", "rows", "seconds", "statement")
        for entry in entries:
            table.add_row(*_cells(entry))
        out.print(table)
        return
    for entry in entries:  # too narrow for a table: two lines each
        when, *cells, statement = _cells(entry)
        out.print(" ".join([when, *(cell for cell in cells if cell)]), markup=False, highlight=False, soft_wrap=True)
        out.print(f"  {statement}", markup=False, highlight=False)


def _cells(entry: dict[str, Any]) -> list[str]:
    part = entry["site"] or entry["project"]
    rows = "" if entry["rows"] is None else f"{entry['rows']}"
    seconds = "" if entry["seconds"] is None else f"{entry['seconds']:.2f}"
    return [
        entry["asked_datetime"][:19].replace("T", " "),
        entry["user"] or "",
        f"{entry['tier']}/{part}" if part else entry["tier"] or "",
        entry["release"] or "",
        entry["outcome"],
        rows,
        seconds,
        entry["statement"] or "",
    ]
