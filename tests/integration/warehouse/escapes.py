"""The list of escape attempts, and what must hold of the reply to each, whatever the door.

Here: reading `escape_attempts.yaml`, planting what must not be seen, judging a reply. Not here: the doors and the
assertions about processes (the tests).
"""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import yaml

from warehouse.home import Home

FILE = Path(__file__).parent / "escape_attempts.yaml"
TIMES = re.compile(r"\{([^{}]+?)\*(\d+)\}")
MOST_ROWS = 1000
"""Rows of an answer that are looked through."""


@dataclass(frozen=True)
class Attempt:
    name: str
    kind: str
    sql: str
    expect: str

    @property
    def id(self) -> str:
        return f"{self.kind}: {self.name}"


@dataclass(frozen=True)
class Planted:
    """A home whose steward has what nobody else may see."""

    home: Home
    table: str
    value: str


@dataclass(frozen=True)
class Reply:
    """What comes back through a door: an answer as text, or a sentence."""

    answer: str | None
    refusal: str | None

    @property
    def text(self) -> str:
        return f"{self.answer or ''}\n{self.refusal or ''}"


def attempts() -> list[Attempt]:
    """All attempts, with repeated texts written out; `{table}` is left for `filled`."""
    found = [Attempt(**row) for row in yaml.safe_load(FILE.read_text(encoding="utf-8"))]
    if len({attempt.id for attempt in found}) != len(found):
        raise ValueError("two attempts have one name")
    return [Attempt(a.name, a.kind, TIMES.sub(lambda m: m.group(1) * int(m.group(2)), a.sql), a.expect) for a in found]


def filled(attempt: Attempt, planted: Planted) -> str:
    return attempt.sql.replace("{table}", planted.table)


def plant(source: Home, root: Path) -> Planted:
    """Copy a home with a release, and give its steward and its sites a table and values of their own."""
    shutil.copytree(source.root, root, symlinks=True)
    home = Home(root)
    table, value = f"tbl_{secrets.token_hex(6)}", f"val_{secrets.token_hex(6)}"
    folder = home.current_release.resolve()
    for path in (folder / "steward.duckdb", *(folder / "site").glob("*.duckdb")):
        path.chmod(0o600)
        with duckdb.connect(str(path)) as db:
            db.execute(f"create table {table} as select '{value}' as marker from range(100)")
            db.execute(f"update fct_visit set visit_type = '{value}'")
    return Planted(home, table, value)


def leaks(reply: Reply, planted: Planted, sql: str) -> list[str]:
    """What of a reply should not be there."""
    folder = planted.home.current_release.resolve()
    # What the asker wrote may be said back to them.
    forbidden = {
        "a value of steward": planted.value,
        "the home": str(planted.home.root),
        "its name": planted.home.root.name,
        "the folder of the release": str(folder.parent),
        "a database file": ".duckdb",
        "a temporary folder": "/tmp/",
        "the code's folder": str(Path(__file__).parents[3]),
        "a package's folder": "site-packages",
        "a Python error": "Traceback",
        "a setting": "lock_configuration",
        "another setting": "memory_limit",
        "a line of /etc/passwd": "root:x:0",
        "the environment": "LC_ALL",
        "the time zone's files": "/usr/",
    }
    said = reply.text
    found = [what for what, text in forbidden.items() if text in said and text not in sql]
    if planted.table in said and planted.table not in sql:
        found.append("a table of steward")
    if reply.refusal is not None and ("\n" in reply.refusal.strip() or len(reply.refusal) > 1000):
        found.append("more than a sentence")
    return found
