"""`ranvier lineage`: where a row of the warehouse comes from."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.tree import Tree

from orchestration.commands import HomeOption, out
from warehouse.home import find_home

app = typer.Typer()


@app.command()
def lineage(
    table: Annotated[str, typer.Argument(help="A table of the steward's file, such as mart_imaging_qa.")],
    key: Annotated[str, typer.Argument(help="A series, session, subject, row or finding key.")],
    home: HomeOption = None,
    release: Annotated[str | None, typer.Option(help="A version; the current one by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trace a row to its delivery, files and methods. Example: ranvier lineage mart_imaging_qa ser_0123456789abcdef"""
    from warehouse.lineage import lineage as trace

    found = trace(find_home(home), table, key, release=release)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n")
        return
    tree = Tree(f"{table} {found['key_column']} {key}", highlight=False)
    _grow(tree, {name: found[name] for name in ("release", "models") if found[name]})
    for row in found["rows"]:
        _grow(tree.add("row"), row)
    out.print(tree, soft_wrap=True)
    if found["rows_count"] > len(found["rows"]):
        out.print(f"{found['rows_count']} rows have this key; the first {len(found['rows'])} are shown.")


def _grow(tree: Tree, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        if isinstance(value, dict):
            _grow(tree.add(name), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                _grow(tree.add(name), item)
        elif isinstance(value, list):
            tree.add(f"{name}: {', '.join(str(item) for item in value)}")
        elif value is not None:
            tree.add(f"{name}: {value}")
