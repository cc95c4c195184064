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
            "education_years": 13,
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
            "fs_brainstem": 0,
            "fs_sensory": 1,
            "fs_bowel_bladder": 0,
            "fs_cerebral": 1,
            "fs_ambulation": 0,
            "ambulation_scale": "neurostatus",
            "t25fw_s": 5.2,
            "nhpt_dominant_s": 19.5,
            "nhpt_nondominant_s": 21.0,
            "sdmt_score": 51,
            "pasat_score": 44,
            "systolic_pressure_mmhg": 122,
            "diastolic_pressure_mmhg": 78,
            "heart_rate_bpm": 66,
            "height_cm": 170.0,
            "weight_kg": 64.0,
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
            "dose": 600.0,
            "dose_unit": "mg",
            "dose_count": 1,
            "dose_interval": "6_months",
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
            "t1_lesion_count": 3,
            "t2_lesion_count": 12,
            "spinal_t2_lesion_count": 1,
            "comparison_mri_date": date(2019, 4, n),
            "new_t1_lesion_count": 0,
            "new_t2_lesion_count": 1,
            "enlarging_t2_lesion_count": 0,
        }
        for n in (1, 2, 3)
    ],
    "diagnosis": [
        {"subject_key": f"sbj_{n}", "diagnosed_date": date(2011 + year, 1, n), "diagnosis": "RRMS"}
        for n in (1, 2, 3)
        for year in (0, 1)
    ],
    "comorbidity": [
        {
            "subject_key": f"sbj_{n}",
            "comorbidity": "hypertension",
            "comorbidity_icd_code": "I10",
            "comorbidity_start_date": date(2012, 5, n),
            "comorbidity_end_date": date(2022, 5, n),
        }
        for n in (1, 2, 3)
    ],
    "csf": [
        {
            "subject_key": f"sbj_{n}",
            "csf_date": date(2010, 12, n),
            "oligoclonal_bands": "positive",
            "csf_cell_count_per_ul": 8,
            "csf_protein_mg_l": 410.0,
            "csf_igg_index": 0.9,
            "kappa_free_light_chain_index": 31.0,
        }
        for n in (1, 2, 3)
    ],
    "evoked_potential": [
        {
            "subject_key": f"sbj_{n}",
            "evoked_potential_date": date(2010, 12, n),
            "evoked_potential": "vep",
            "evoked_potential_side": "left",
            "is_evoked_potential_abnormal": True,
            "evoked_potential_latency_ms": 126.0,
            "evoked_potential_amplitude_uv": 6.5,
        }
        for n in (1, 2, 3)
    ],
    "laboratory": [
        {
            "subject_key": f"sbj_{n}",
            "laboratory_date": date(2021, 2, n),
            "laboratory_test": "lymphocytes",
            "laboratory_value": 1.4,
        }
        for n in (1, 2, 3)
    ],
    "pregnancy": [
        {
            "subject_key": f"sbj_{n}",
            "pregnancy_start_date": date(2013, 5, n),
            "pregnancy_end_date": date(2014, 2, n),
            "pregnancy_outcome": "healthy_birth",
            "gestation_weeks": 39,
            "breastfeeding_weeks": 12,
        }
        for n in (1, 2, 3)
    ],
    "questionnaire": [
        {
            "subject_key": f"sbj_{n}",
            "questionnaire_date": date(2021, 2, n),
            "questionnaire": "msis29_physical",
            "questionnaire_score": 22.5,
        }
        for n in (1, 2, 3)
    ],
    "neuropsychology": [
        {
            "subject_key": f"sbj_{n}",
            "neuropsychology_date": date(2021, 2, n),
            "brbn_version": "A",
            "srt_lts_score": 48,
            "srt_cltr_score": 39,
            "srt_delayed_score": 9,
            "spart_score": 21,
            "spart_delayed_score": 7,
            "brbn_sdmt_score": 51,
            "brbn_pasat3_score": 45,
            "brbn_pasat2_score": 33,
            "word_list_score": 25,
        }
        for n in (1, 2, 3)
    ],
    "adverse_event": [
        {
            "subject_key": f"sbj_{n}",
            "adverse_event_date": date(2021, 2, n),
            "adverse_event_end_date": date(2021, 3, n),
            "adverse_event": "infection",
            "adverse_event_term": "Urinary tract infection",
            "adverse_event_grade": 2,
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
