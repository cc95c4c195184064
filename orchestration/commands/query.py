"""`ranvier sql` and `ranvier dictionary`: what an analyst asks."""

from __future__ import annotations

import getpass
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.errors import QueryRefused, RanvierError
from warehouse.home import find_home

if TYPE_CHECKING:
    from warehouse.gateway import Answer

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One SELECT; - reads it from standard input.")] = None,
    home: HomeOption = None,
    tier: Annotated[str, typer.Option(help="open, registered, controlled, steward or site.")] = "open",
    site: Annotated[str | None, typer.Option(help="The site, for tier `site`.")] = None,
    project: Annotated[str | None, typer.Option(help="The project, for tier `controlled`.")] = None,
    release: Annotated[str | None, typer.Option(help="A version; the current one by default.")] = None,
    format: Annotated[str, typer.Option(help="table, csv, json, parquet or arrow.")] = "table",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Time limit.")] = 60.0,
    explain: Annotated[bool, typer.Option("--explain", help="Say how it would be answered, and do not.")] = False,
    shell: Annotated[bool, typer.Option("--shell", help="Ask one question after the other.")] = False,
) -> None:
    """Query a tier. Example: ranvier sql --tier registered "select sex, count(*) from dim_subject group by 1" """
    from orchestration.answers import check_format, print_answer
    from warehouse.gateway import query as door

    place = find_home(home)
    tier = "site" if site else "controlled" if project else tier
    if (query is None) != shell:
        raise RanvierError(
            'Give one SELECT, such as: ranvier sql "show tables"; or ask several with: ranvier sql --shell'
        )

    def ask(text: str) -> Answer:
        return door(
            place,
            text,
            tier=tier,
            site=site,
            project=project,
            release=release,
            user=getpass.getuser(),
            seconds=seconds,
        )

    def show(answer: Answer, chosen: str) -> None:
        print_answer(answer, chosen, out)

    try:
        if query is None:
            from orchestration.shell import Shell

            out.print(f"Tier {site or project or tier}. End a question with ; - help says more, quit ends.")
            Shell(ask, show, lambda text: out.print(text, markup=False, highlight=False), prompt=tier).run()
            return
        check_format(format)
        text = sys.stdin.read() if query == "-" else query
        show(ask(f"explain {text}" if explain else text), format)
    except QueryRefused as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()


@app.command()
def dictionary(
    name: Annotated[str | None, typer.Argument(help="A variable or a column; all variables without one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a column means, and what each tier makes of it. Example: ranvier dictionary edss"""
    from warehouse.meaning import find_meanings, nearest_names

    found = find_meanings(name)
    if not found:
        near = nearest_names(name or "")
        hint = f"did you mean {', '.join(near)}?" if near else "list the variables with: ranvier dictionary"
        raise RanvierError(f"No variable or column is called {name!r}; {hint}")
    if as_json:
        sys.stdout.write(json.dumps([meaning.as_dict() for meaning in found], indent=1, ensure_ascii=False) + "\n")
        return
    if name is None:
        table = Table("variable", "type", "unit", "tier", "definition")
        for m in found:
            table.add_row(m.name, m.type, m.unit or "", m.least_tier or "", m.definition)
        out.print(table)
        return
    for m in found:
        out.print(f"{m.name}  ({m.of})", style="bold", highlight=False, markup=False)
        facts = {
            "definition": m.definition,
            "type": m.type,
            "unit": m.unit,
            "allowed": m.allowed,
            "source": m.source,
            "note": m.note,
            "MSDA category": m.msda,
            "CDISC SDTM": m.sdtm,
            "OMOP class": m.omop,
            "disclosure class": m.disclosure,
        }
        for fact, text in facts.items():
            if text:
                out.print(f"  {fact:<17}{text}", markup=False, highlight=False)
        if not m.places:
            out.print("  in no tier", markup=False)
        for place in m.places:
            out.print(f"  {place.tier:<17}{place.table}.{place.column}: {place.how}", markup=False, highlight=False)
