"""Subjects of a tier as BIDS participants: `participants.tsv` and its `participants.json`.

Here: the columns of BIDS (https://bids-specification.readthedocs.io, participants file) and what the tier adds. Not
here: images.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from warehouse.catalogue_sql import described
from warehouse.dictionary import load_dictionary
from warehouse.policy import Column
from warehouse.standards.rows import TierFile, write_new_text

OLDEST = 89
"""BIDS asks that older participants are given this age; it is also the limit of HIPAA safe harbour."""
SEX = {"F": "F", "M": "M", "O": "O"}
HAND = {"right": "R", "left": "L", "ambidextrous": "A"}
MISSING = "n/a"


def participant_id(subject_key: str) -> str:
    """The label that the lake gives the subject's images: `sub-` and the letters and digits behind the key's prefix."""
    return f"sub-{re.sub('[^0-9A-Za-z]', '', subject_key.split('_')[-1])}"


def participants(tier: TierFile) -> tuple[pl.DataFrame, dict[str, Any]]:
    """(rows, sidecar): one row per subject of the tier.

    `age` is in completed years at the first visit, at most 89, where the tier tells ages; `sex` and `handedness` are in
    BIDS codes. What the tier holds besides of a subject follows under its own name, but no date and no key.
    """
    subjects = tier.read("dim_subject")
    rows = subjects.select(
        pl.col("subject_key").map_elements(participant_id, return_dtype=pl.String).alias("participant_id"),
        pl.lit("homo sapiens").alias("species"),
        pl.col("subject_key"),
    )
    sidecar: dict[str, Any] = {"species": {"Description": "Species of the participant."}}
    visits = tier.read("fct_visit")
    if "age_years" in visits.columns:
        first = visits.group_by("subject_key").agg(pl.col("age_years").min().clip(upper_bound=OLDEST).alias("age"))
        rows = rows.join(first, on="subject_key", how="left")
        text = f"Age at the first visit in completed years; {OLDEST} and above are {OLDEST}."
        sidecar["age"] = {"Description": text, "Units": "year"}
    for column in tier.tables["dim_subject"].columns:
        if column.name in subjects.columns and _is_told(column):
            rows = rows.with_columns(_values(column, subjects[column.name]))
            sidecar[column.name] = _described(column)
    rows = rows.sort("participant_id").drop("subject_key")
    return rows.with_columns(pl.all().cast(pl.String).fill_null(MISSING)), sidecar


def _is_told(column: Column) -> bool:
    consent = {variable.name for variable in load_dictionary().entities["consent"].variables}
    is_of_patient = column.disclosure in ("plain", "quasi", "sensitive")
    return is_of_patient and column.type != "date" and column.source not in consent


def _values(column: Column, values: pl.Series) -> pl.Series:
    codes = {"sex": SEX, "handedness": HAND}.get(column.name)
    if codes is not None:
        return values.replace_strict(codes, default=None, return_dtype=pl.String)
    return values


def _described(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"Description": described(column)}
    variable = column.variable
    if column.name in ("sex", "handedness") and variable and variable.codes:
        codes = SEX if column.name == "sex" else HAND
        entry["Levels"] = {code: variable.codes[own] for own, code in codes.items()}
    elif variable and variable.codes:
        entry["Levels"] = variable.codes
    if variable and variable.unit:
        entry["Units"] = variable.unit
    return entry


def write_participants(tier: TierFile, folder: Path) -> int:
    """Write both files into a folder; returns the count of participants. Raises RanvierError where they are there."""
    rows, sidecar = participants(tier)
    content = {
        "participants.tsv": rows.write_csv(separator="\t"),
        "participants.json": json.dumps(sidecar, indent=1) + "\n",
    }
    for name, text in content.items():
        write_new_text(folder / name, text)
    return rows.height
