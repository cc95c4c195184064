"""A site without fault, as registry frames, for tests to break one row of."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from warehouse.tables import schema_of

SITE = "BASEL"
DELIVERY = "dlv_0000000000000001"

ROWS: dict[str, list[dict[str, Any]]] = {
    "patient": [
        {
            "subject_key": f"sbj_{n}",
            "sex": "F",
            "birth_date": date(1980, 1, n),
            "onset_date": date(2010, 5, n),
            "diagnosis_date": date(2011, 1, n),
            "disease_course": "RRMS",
        }
        for n in (1, 2, 3)
    ],
    "consent": [
        {
            "subject_key": f"sbj_{n}",
            "consent_date": date(2015, 1, n),
            "is_registry_consented": True,
            "is_imaging_consented": True,
            "is_research_sharing_consented": True,
            "withdrawal_date": date(2024, 1, 1) if n == 1 else None,
        }
        for n in (1, 2, 3)
    ],
    "visit": [
        {
            "subject_key": f"sbj_{n}",
            "visit_date": date(2020 + year, 3, n),
            "visit_type": "clinic",
            "edss": 2.5,
            "fs_pyramidal": 1,
            "fs_cerebellar": 0,
            "fs_visual": 2,
            "t25fw_s": 5.2,
            "sdmt_score": 51,
        }
        for n in (1, 2, 3)
        for year in (0, 1)
    ],
    "relapse": [
        {
            "subject_key": f"sbj_{n}",
            "relapse_date": date(2019 + year, 6, n),
            "relapse_duration_days": 21,
            "relapse_severity": "mild",
            "is_steroid_treated": True,
        }
        for n in (1, 2, 3)
        for year in (0, 1)
    ],
    "treatment": [
        {
            "subject_key": f"sbj_{n}",
            "dmt": "ocrelizumab",
            "start_date": date(2018, 2, n),
            "stop_date": None if n == 1 else date(2021, 2, n),
            "stop_reason": None if n == 1 else "dmt_switch",
        }
        for n in (1, 2, 3)
    ],
    "mri_session": [
        {
            "subject_key": f"sbj_{n}",
            "mri_date": date(2020, 4, n),
            "mri_region": "brain",
            "is_contrast_given": True,
            "gd_lesion_count": 0,
            "t2_lesion_count": 12,
        }
        for n in (1, 2, 3)
    ],
}


def frame(entity: str, rows: list[dict[str, Any]], delivery_key: str = DELIVERY) -> pl.DataFrame:
    """Rows with provenance, in the lake's schema."""
    full = [
        {
            "site_code": SITE,
            "delivery_key": delivery_key,
            "row_key": f"{delivery_key[-2:]}-{entity}-{number}",
            "file_number": 1,
            "source_row": number,
        }
        | row
        for number, row in enumerate(rows, start=2)
    ]
    return pl.DataFrame(full, schema=schema_of(f"raw_registry__{entity}"))


def base() -> dict[str, pl.DataFrame]:
    """Every registry table of a site without fault."""
    return {entity: frame(entity, rows) for entity, rows in ROWS.items()}
