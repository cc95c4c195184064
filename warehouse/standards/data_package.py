"""A tier as a Frictionless data package: CSV files and a `datapackage.json` that describes every column.

Here: Data Package and Table Schema version 1 (https://specs.frictionlessdata.io). Not here: what a tier holds
(`warehouse.policy`).
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

from warehouse.catalogue_sql import described
from warehouse.dictionary import load_dictionary
from warehouse.policy import Column, Table
from warehouse.standards.rows import TierFile, write_new

TYPES = {
    "varchar": "string",
    "boolean": "boolean",
    "integer": "integer",
    "bigint": "integer",
    "double": "number",
    "date": "date",
    "timestamp": "datetime",
    "timestamp with time zone": "datetime",
}
LOCAL = "%Y-%m-%dT%H:%M:%S"
"""A scanner's own clock: no zone is known, so none is said."""
UTC = f"{LOCAL}Z"


def field_of(column: Column) -> dict[str, Any]:
    """A column as a Table Schema field.

    Ranges and codes are constraints only where nothing else can stand in the column: a range of severity error, since
    rows that break it are in no release, and codes that the tier has not merged.
    """
    field: dict[str, Any] = {
        "name": column.name,
        "type": TYPES[column.type],
        "description": described(column),
    }
    if field["type"] == "datetime":
        field["format"] = UTC if column.type.endswith("time zone") else LOCAL
    variable = column.variable
    if variable is None or column.how not in ("keep", "merge_rare"):
        return field
    constraints: dict[str, Any] = {}
    if variable.codes:
        constraints["enum"] = [*variable.codes, *(["other"] if column.how == "merge_rare" else [])]
        constraints["enum"] = list(dict.fromkeys(constraints["enum"]))
    if variable.severity == "error" and variable.type in ("integer", "decimal"):
        if variable.minimum is not None:
            constraints["minimum"] = variable.minimum
        if variable.maximum is not None:
            constraints["maximum"] = variable.maximum
    if constraints:
        field["constraints"] = constraints
    return field


def resource_of(table: Table, columns: list[str], names: list[str]) -> dict[str, Any]:
    """A table as a resource: its columns, its key, and the subject it belongs to."""
    schema: dict[str, Any] = {
        "fields": [field_of(column) for column in table.columns if column.name in columns],
        "primaryKey": list(table.key),
        "missingValues": [""],
    }
    if "subject_key" in columns and table.name != "dim_subject" and "dim_subject" in names:
        reference = {"resource": "dim_subject", "fields": "subject_key"}
        schema["foreignKeys"] = [{"fields": "subject_key", "reference": reference}]
    return {
        "name": table.name,
        "path": f"{table.name}.csv",
        "profile": "tabular-data-resource",
        "title": table.name,
        "description": table.description,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": schema,
    }


def as_csv(frame: pl.DataFrame) -> str:
    """Rows as Table Schema reads them: `true` and `false`, ISO dates and times, empty cells where there is nothing."""
    times = []
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Datetime):
            column = pl.col(name)
            times.append(
                column.dt.convert_time_zone("UTC").dt.strftime(UTC) if kind.time_zone else column.dt.strftime(LOCAL)
            )
    return frame.with_columns(times).write_csv()


def write_data_package(tier: TierFile, target: Path) -> int:
    """Write a tier as a zip file with `datapackage.json` and one CSV file per table; returns the count of tables.

    Raises
    ------
    RanvierError
        The target is there already, or the tier cannot be read.
    """
    names = tier.names

    def write(draft: Path) -> None:
        resources = []
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                frame = tier.read(name)
                table = tier.tables[name]
                resources.append(resource_of(table, frame.columns, names))
                archive.writestr(f"{name}.csv", as_csv(frame))
            archive.writestr("datapackage.json", json.dumps(_package(tier, resources), indent=1))

    write_new(target, write)
    return len(names)


def _package(tier: TierFile, resources: list[dict[str, Any]]) -> dict[str, Any]:
    network = tier.home.network().name
    return {
        "profile": "tabular-data-package",
        "name": re.sub(r"[^a-z0-9._-]+", "-", f"{network} {tier.tier}".lower()),
        "title": f"{network}, tier {tier.tier}",
        "version": tier.release,
        "description": f"Dictionary version {load_dictionary().version}. The tier's terms of use hold for this copy.",
        "resources": resources,
    }
