"""Homes whose releases are written straight away, of any size.

Here: tier files as the policy declares them. Not here: assertions. A real release comes from the fixture `released`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import yaml

from warehouse import lake
from warehouse.home import Home
from warehouse.policy import load_policy

TABLES = ("dim_subject", "fct_visit")


def make_home(root: Path, **mirror: float) -> Home:
    home = Home(root)
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    home.network_file.write_text(yaml.safe_dump({"sites": [{"code": "AA"}], "mirror": mirror}), encoding="utf-8")
    return home


def write_release(home: Home, version: str, *, subjects: int, visits: int, withdrawn: int | None = None) -> str:
    """Make a release of `registered` alone the current one. Returns the key of the subject who is left out."""
    folder = home.releases / version
    folder.mkdir()
    with duckdb.connect(str(folder / "registered.duckdb")) as db:
        for name in TABLES:
            columns = ", ".join(
                f"{value_of(column.name, column.type)} as {column.name}"
                for column in load_policy().tiers["registered"][name].columns
            )
            series = f"range({subjects}) s(i)" + (
                f", range({visits}) v(j)" if name == "fct_visit" else ", (select 0 j)"
            )
            left_out = "" if withdrawn is None else f" where i <> {withdrawn}"
            db.execute(f"create table {name} as select {columns} from {series}{left_out}")
    (folder / "manifest.json").write_text(json.dumps({"version": version}), encoding="utf-8")
    lake.point(home.current_release, version)
    return f"sbj_{withdrawn or 0:016x}"


def value_of(name: str, kind: str) -> str:
    """A value that depends on subject `i` and visit `j`, as SQL; some are NULL."""
    if name == "subject_key":
        return "printf('sbj_%016x', i)"
    if name == "visit_number":
        return "j::integer"
    value = {
        "varchar": "'value ' || ((i + j) % 9)",
        "boolean": "(i + j) % 2 = 0",
        "double": "(i % 19) / 2 + j * 0.1",
        "date": "date '2020-01-01' + (i % 900)::integer",
    }.get(kind, f"((i * 7 + j) % 1000)::{kind}")
    return f"case when (i + j) % 11 > 0 then {value} end"


def next_release(home: Home, version: str, *, without: str | None = None) -> None:
    """Make a copy of the current release the next one, without one subject."""
    old = home.current_release.resolve()
    new = home.releases / version
    shutil.copytree(old, new)
    for path in new.rglob("*.duckdb") if without else ():
        path.chmod(0o640)
        with duckdb.connect(str(path)) as db:
            tables = db.execute(
                "select table_name from information_schema.columns where column_name = 'subject_key'"
            ).fetchall()
            for (table,) in tables:
                db.execute(f'delete from "{table}" where subject_key = ?', [without])
    lake.point(home.current_release, version)
