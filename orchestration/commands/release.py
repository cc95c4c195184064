"""`ranvier release`: the life of the warehouse's releases."""

import typer

from orchestration.commands import HomeOption, out
from warehouse.home import find_home

app = typer.Typer(no_args_is_help=True, help="Releases of the warehouse.")


@app.command("list")
def release_list(home: HomeOption = None) -> None:
    """List releases, the current one marked. Example: ranvier release list"""
    from warehouse.releases import current_version, list_releases

    place = find_home(home)
    place.network()
    current = current_version(place)
    for version in list_releases(place):
        out.print(f"{'*' if version == current else ' '} {version}")


@app.command("publish")
def release_publish(version: str, home: HomeOption = None) -> None:
    """Make a release the current one. Example: ranvier release publish 2026-11-24.1"""
    from warehouse.releases import publish

    publish(find_home(home), version)
    out.print(f"{version} is the current release.")
