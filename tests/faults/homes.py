"""What the fault tests deliver, and under which secret."""

from __future__ import annotations

from pathlib import Path

from warehouse.home import Home

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123456789abcdef"
CONSENT = "patient_id,consent_date,is_registry_consented,is_imaging_consented,is_research_sharing_consented\n"
PATIENTS = "patient_id,family_name,given_name,sex,birth_date,onset_date,diagnosis_date,disease_course\n"
VISITS = "patient_id,visit_date,edss\n"


def deliver(home: Home, site: str, name: str = "first", *, edss: str = "2.5") -> None:
    """A delivery of three patients; P3's diagnosis lies before the onset (rule R05b)."""
    folder = home.landing / site / name
    folder.mkdir(parents=True)
    ids = ["P1", "P2", "P3"]
    rows = [f"{i},Doe{i}{site},Ann,F,1980-02-03,2005-01-01,{2004 if i == 'P3' else 2006}-06-01,RRMS" for i in ids]
    (folder / "patients.csv").write_text(PATIENTS + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "consent.csv").write_text(CONSENT + "".join(f"{i},2015-02-03,true,true,true\n" for i in ids), "utf-8")
    (folder / "visits.csv").write_text(VISITS + "".join(f"{i},2016-02-03,{edss}\n" for i in ids), "utf-8")
    (folder / "_COMPLETE").touch()
