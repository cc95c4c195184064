"""The commands of `ranvier` that come in groups, one module each; `orchestration.cli` puts them together.

Here: what the groups share. Not here: any work. Heavy imports stand inside the commands: `--help` starts at once.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console()
HomeOption = Annotated[
    Path | None, typer.Option("--home", envvar="RANVIER_HOME", help="The home folder; the working folder by default.")
]
