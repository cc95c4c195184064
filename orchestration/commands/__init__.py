"""The commands of `ranvier` that come in groups, one module each; `orchestration.cli` puts them together.

Here: what the groups share. Not here: any work. Heavy imports stand inside the commands: `--help` starts at once.
"""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from warehouse.home import Home, Network

out = Console()
HomeOption = Annotated[
    Path | None, typer.Option("--home", envvar="RANVIER_HOME", help="The home folder; the working folder by default.")
]


def save_network(home: Home, network: Network) -> None:
    """Write `network.yaml` anew; comments in it are lost, values are kept."""
    from warehouse.lake import write_bytes

    text = yaml.safe_dump(network.model_dump(exclude_defaults=True), sort_keys=False, allow_unicode=True)
    write_bytes(home.network_file, text.encode())
