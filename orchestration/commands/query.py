"""`ranvier sql` and `ranvier dictionary`: what an analyst asks."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.errors import QueryRefused, RanvierError
from warehouse.home import find_home

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    home: HomeOption = None,
    tier: Annotated[str, typer.Option(help="open, registered, steward or site.")] = "open",
    site: Annotated[str | None, typer.Option(help="The site, for tier `site`.")] = None,
    release: Annotated[str | None, typer.Option(help="A version; the current one by default.")] = None,
    format: Annotated[str, typer.Option(help="table, csv, json, parquet or arrow.")] = "table",
) -> None:
    """Query a tier. Example: ranvier sql --tier registered "select sex, count(*) from dim_subject group by 1" """
    from orchestration.answers import print_answer
    from warehouse.gateway import query as ask

    try:
        answer = ask(
            find_home(home), query, tier="site" if site else tier, site=site, release=release, user=getpass.getuser()
        )
        print_answer(answer, format, out)
    except QueryRefused as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error


@app.command()
def dictionary(name: Annotated[str | None, typer.Argument(help="A variable; all of them without one.")] = None) -> None:
    """Show definitions. Example: ranvier dictionary edss"""
    from warehouse.dictionary import load_dictionary, range_text

    table = Table("variable", "table", "type", "unit", "allowed", "tier", "definition")
    for entity in load_dictionary().entities.values():
        for v in entity.variables:
            if name in (None, v.name):
                allowed = " ".join(v.codes) if v.codes else range_text(v)
                table.add_row(v.name, entity.name, v.type, v.unit or "", allowed, v.tier, v.definition)
    if not table.row_count:
        raise RanvierError(f"The dictionary has no variable {name!r}; list them with: ranvier dictionary")
    out.print(table)
