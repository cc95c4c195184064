"""The tables of the lake: their columns, types and grain.

Here: the declared schema of every Parquet table between ingestion, qa and dbt. Registry tables take theirs from the
dictionary. Not here: the marts (dbt and `warehouse.policy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from warehouse.dictionary import load_dictionary

UTC = pl.Datetime("us", "UTC")

Schema = dict[str, pl.DataType | type[pl.DataType]]


@dataclass(frozen=True)
class LakeTable:
    """A Parquet table of the lake.

    `grain` says how it is stored: `delivery` is one immutable file per delivery (what arrived), `site` is one file per
    site that is replaced as a whole (what was made of it), keyed by `key`.
    """

    name: str
    description: str
    grain: Literal["delivery", "site"]
    key: tuple[str, ...]
    columns: Schema


PROVENANCE: Schema = {"site_code": pl.String, "delivery_key": pl.String}

DELIVERY = LakeTable(
    "raw_lake__delivery",
    "One row per delivery that was read, or that could not be read, with the reason.",
    "delivery",
    ("delivery_key",),
    PROVENANCE
    | {
        "display_name": pl.String,  # the folder's name with everything but technical words masked
        "manifest_sha256": pl.String,
        "received_datetime": UTC,
        "files_count": pl.Int64,
        "bytes_count": pl.Int64,
        "status": pl.String,  # read | unreadable
        "reason_code": pl.String,
        "reason": pl.String,
    },
)

FILE = LakeTable(
    "raw_lake__file",
    "One row per file received, archive members included: what it was taken for and what became of it.",
    "delivery",
    ("delivery_key", "file_number"),
    PROVENANCE
    | {
        "file_number": pl.Int32,  # 1-based, in path order: how a site finds the file without our printing its path
        "display_name": pl.String,
        "sha256": pl.String,
        "bytes_count": pl.Int64,
        "kind": pl.String,  # registry | dicom | nifti | sidecar | archive | marker | other
        "series_key": pl.String,
        "status": pl.String,  # accepted | refused
        "reason_code": pl.String,
        "reason": pl.String,
    },
)

ROW_REFUSAL = LakeTable(
    "raw_registry__refusal",
    "One row per registry row that could not be read, with the variable and the reason; never with an identifier.",
    "delivery",
    ("row_key",),
    PROVENANCE
    | {
        "row_key": pl.String,
        "entity": pl.String,
        "file_number": pl.Int32,
        "source_row": pl.Int32,
        "variable": pl.String,
        "reason_code": pl.String,
        "reason": pl.String,
    },
)

SERIES = LakeTable(
    "raw_imaging__series",
    "One row per imaging series received, accepted or refused, with canonical acquisition parameters.",
    "delivery",
    ("series_key",),
    PROVENANCE
    | {
        "series_key": pl.String,
        "session_key": pl.String,
        "subject_key": pl.String,
        "source": pl.String,  # dicom | nifti
        "files_count": pl.Int32,
        "first_file_number": pl.Int32,
        "last_file_number": pl.Int32,
        "series_number": pl.Int32,
        "contrast": pl.String,  # T1w T2w FLAIR PDw bold dwi localizer angio other unknown
        "contrast_reason": pl.String,
        "is_derived": pl.Boolean,
        "is_contrast_enhanced": pl.Boolean,
        "is_header_phantom": pl.Boolean,
        "acquisition_datetime": pl.Datetime("us"),
        "manufacturer": pl.String,
        "model": pl.String,
        "scanner_key": pl.String,  # pseudonym of the device serial number
        "software_version": pl.String,
        "field_strength_t": pl.Float64,
        "acquisition_dimension": pl.String,  # 2D | 3D
        "repetition_time_ms": pl.Float64,
        "echo_time_ms": pl.Float64,
        "inversion_time_ms": pl.Float64,
        "flip_angle_deg": pl.Float64,
        "rows_count": pl.Int32,
        "columns_count": pl.Int32,
        "slices_count": pl.Int32,
        "volumes_count": pl.Int32,
        "spacing_x_mm": pl.Float64,
        "spacing_y_mm": pl.Float64,
        "spacing_z_mm": pl.Float64,
        "slice_thickness_mm": pl.Float64,
        "missing_slices_count": pl.Int32,
        "patient_position": pl.String,
        "image_type": pl.String,
        "phase_encoding_axis": pl.String,  # i | j | k of the converted image
        "table_position_mm": pl.Float64,
        "is_isocentre_known": pl.Boolean,
        "isocentre_reason": pl.String,
        "image_sha256": pl.String,
        "bids_path": pl.String,  # relative to lake/bids
        "converter_version": pl.String,
        "ledger_sha256": pl.String,
        "status": pl.String,  # accepted | refused
        "reason_code": pl.String,
        "reason": pl.String,
    },
)

ACCEPTED = LakeTable(
    "raw_lake__accepted",
    "One row per delivery whose data releases may use. dbt reads no other delivery.",
    "site",
    ("delivery_key",),
    PROVENANCE
    | {
        "accepted_datetime": UTC,
        "sequence_number": pl.Int64,  # later deliveries of a site win over earlier ones
        "supersedes_delivery_key": pl.String,
    },
)

MEASURE = LakeTable(
    "raw_qa__measure",
    "One row per series and image measure: a value, or the reason why there is none.",
    "site",
    ("series_key", "measure"),
    PROVENANCE
    | {
        "series_key": pl.String,
        "measure": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "direction": pl.String,  # higher | lower | target | none: which way is better
        "reason_code": pl.String,
        "reason": pl.String,
        "method_version": pl.String,
        "mask_sha256": pl.String,
    },
)

VERDICT = LakeTable(
    "raw_qa__verdict",
    "One row per accepted series: pass, fail or undetermined, with the reasons.",
    "site",
    ("series_key",),
    PROVENANCE
    | {
        "series_key": pl.String,
        "verdict": pl.String,  # pass | fail | undetermined
        "reasons": pl.List(pl.String),
        "rule_ids": pl.List(pl.String),
        "is_refused": pl.Boolean,  # not a head: its files count as refused
        "exclusion_probability": pl.Float64,  # that a rater would exclude it, 0 to 1
        "exclusion_drivers": pl.List(pl.String),  # measures that raise it most, strongest first
        "exclusion_reason": pl.String,  # why there is no probability
        "exclusion_version": pl.String,  # of the model
        "picture_sha256": pl.String,
        "thresholds_sha256": pl.String,
        "judged_datetime": UTC,
    },
)

REFUSED_ROW = LakeTable(
    "raw_qa__refused_row",
    "One row per registry row that breaks a rule of severity error: releases leave it out.",
    "site",
    ("row_key", "rule_id"),
    PROVENANCE | {"row_key": pl.String, "entity": pl.String, "rule_id": pl.String},
)

FINDING = LakeTable(
    "raw_qa__finding",
    "One row per finding, over its whole life.",
    "site",
    ("finding_key",),
    PROVENANCE
    | {
        "finding_key": pl.String,  # sha256 of rule and entity key
        "rule_id": pl.String,
        "quality_class": pl.String,  # representativeness | consistency | accuracy | completeness | image | delivery
        "severity": pl.String,  # error | warning
        "entity_kind": pl.String,  # row | series | subject | delivery | site
        "entity_key": pl.String,
        "subject_key": pl.String,
        "where_found": pl.String,  # in the site's own terms: table and row, or files of the series
        "message": pl.String,
        "action": pl.String,
        "state": pl.String,  # open notified acknowledged resolved accepted rejected
        "first_seen_datetime": UTC,
        "last_seen_datetime": UTC,
    },
)

RULE_RESULT = LakeTable(
    "raw_qa__rule_result",
    "One row per rule, site and delivery: of the rows that no later delivery replaces, how many were looked at and how "
    "many break it, or why that is not known.",
    "site",
    ("rule_id", "delivery_key"),
    PROVENANCE  # delivery_key is empty where a rule looked at no delivery
    | {
        "rule_id": pl.String,
        "entity": pl.String,
        "level": pl.String,  # field | row | table | cross_table | longitudinal
        "quality_class": pl.String,
        "severity": pl.String,
        "status": pl.String,  # pass | fail | undetermined
        "reason": pl.String,
        "denominator_count": pl.Int64,
        "violated_count": pl.Int64,
        "sample_row_keys": pl.List(pl.String),
    },
)


def _registry_tables() -> list[LakeTable]:
    tables = []
    for entity in load_dictionary().entities.values():
        columns: Schema = PROVENANCE | {
            "row_key": pl.String,
            "file_number": pl.Int32,
            "source_row": pl.Int32,
            "subject_key": pl.String,
        }
        columns |= {variable.name: variable.polars_type for variable in entity.stored_variables}
        tables.append(LakeTable(f"raw_registry__{entity.name}", entity.description, "delivery", ("row_key",), columns))
    return tables


LAKE_TABLES: dict[str, LakeTable] = {
    table.name: table
    for table in [
        DELIVERY,
        FILE,
        ROW_REFUSAL,
        SERIES,
        ACCEPTED,
        MEASURE,
        VERDICT,
        REFUSED_ROW,
        FINDING,
        RULE_RESULT,
        *_registry_tables(),
    ]
}


def schema_of(table: str) -> Schema:
    """Columns and polars types of a lake table. Raises KeyError for a name that is none."""
    return LAKE_TABLES[table].columns
