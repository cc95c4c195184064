"""`ranvier export`: the dictionary and the tiers in the formats of others."""

from __future__ import annotations

import getpass
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from orchestration.commands import HomeOption, out
from warehouse.errors import RanvierError
from warehouse.home import find_home

if TYPE_CHECKING:
    from warehouse.gateway import Tier
    from warehouse.standards.rows import TierFile

app = typer.Typer(no_args_is_help=True, help="The dictionary and the tiers in the formats of others.")
TierOption = Annotated[str, typer.Option(help="registered, controlled, steward, site; frictionless also open.")]
SiteOption = Annotated[str | None, typer.Option(help="The site, for tier `site`.")]
ProjectOption = Annotated[str | None, typer.Option(help="The project, for tier `controlled`.")]
ReleaseOption = Annotated[str | None, typer.Option(help="A version; the current one by default.")]


def _tier(
    home: Path | None, tier: str, site: str | None, project: str | None, release: str | None
) -> AbstractContextManager[TierFile]:
    from warehouse.policy import TIER_NAMES
    from warehouse.standards.rows import open_tier

    chosen = "site" if site else "controlled" if project else tier
    if chosen not in TIER_NAMES:
        raise RanvierError(f"There is no tier {chosen!r}; there are {', '.join(TIER_NAMES)}")
    return open_tier(find_home(home), cast("Tier", chosen), getpass.getuser(), site, project, release)


@app.command()
def redcap(target: Annotated[Path, typer.Argument(help="The CSV file to make.")]) -> None:
    """The dictionary as a REDCap data dictionary. Example: ranvier export redcap ranvier_redcap.csv"""
    from warehouse.dictionary import load_dictionary
    from warehouse.standards.redcap_dictionary import redcap_dictionary
    from warehouse.standards.rows import write_new_text

    # REDCap reads UTF-8 with or without a mark; Excel needs it.
    write_new_text(target, redcap_dictionary(load_dictionary()), encoding="utf-8-sig")
    out.print(f"Wrote {target}; upload it in REDCap's designer as a data dictionary.")


@app.command()
def frictionless(
    target: Annotated[Path, typer.Argument(help="The zip file to make.")],
    home: HomeOption = None,
    tier: TierOption = "open",
    site: SiteOption = None,
    project: ProjectOption = None,
    release: ReleaseOption = None,
) -> None:
    """A tier as a Frictionless data package. Example: ranvier export frictionless open.zip --tier open"""
    from warehouse.standards.data_package import write_data_package

    with _tier(home, tier, site, project, release) as opened:
        count = write_data_package(opened, target)
    out.print(f"Wrote {target} with {count} tables.")


@app.command()
def cdisc(
    target: Annotated[Path, typer.Argument(help="The zip file to make.")],
    home: HomeOption = None,
    tier: TierOption = "steward",
    site: SiteOption = None,
    project: ProjectOption = None,
    release: ReleaseOption = None,
) -> None:
    """A tier as the CDISC archive of OPTIMISE:MS. Example: ranvier export cdisc basel.zip --site BASEL"""
    from warehouse.standards.cdisc import write_cdisc

    with _tier(home, tier, site, project, release) as opened:
        count = write_cdisc(opened, target)
    out.print(f"Wrote {target} with {count} domain files.")


@app.command()
def bids(
    folder: Annotated[Path, typer.Argument(help="The folder to write into.")],
    home: HomeOption = None,
    tier: TierOption = "registered",
    site: SiteOption = None,
    project: ProjectOption = None,
    release: ReleaseOption = None,
) -> None:
    """participants.tsv and .json of BIDS. Example: ranvier export bids bids/ --tier registered"""
    from warehouse.standards.participants import write_participants

    with _tier(home, tier, site, project, release) as opened:
        count = write_participants(opened, folder)
    out.print(f"Wrote participants.tsv and participants.json for {count} subjects into {folder}.")
