"""The SQL macros as dbt renders them, for tests that need no dbt build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment

MACROS = Path(__file__).parents[3] / "dbt_project" / "macros"


def macros(name: str) -> Any:
    """The macros of one file that take what they need as arguments."""
    environment = Environment(autoescape=False)
    return environment.from_string((MACROS / f"{name}.sql").read_text(encoding="utf-8")).module
