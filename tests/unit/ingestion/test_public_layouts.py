"""Files in the layouts that other systems write, built after their public sources, are read by the shipped profiles.

Each test names where its layout is public. The files are ours; no row of anybody's data is in them.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ingestion.profile import FOLDER, load_profile
from ingestion.registry import RegistryFile, RegistryResult, read_registry
from orchestration.check import check_folder
from warehouse.dictionary import load_dictionary
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

OPEN_MS_DATA = Path(os.environ.get("RANVIER_TEST_DATA", "/nonexistent")) / "ms_open_ms_data"


def read(tmp_path: Path, profile: str, files: dict[str, bytes]) -> RegistryResult:
    given = []
    for number, (name, content) in enumerate(files.items(), start=1):
        (tmp_path / name).write_bytes(content)
        given.append(RegistryFile(tmp_path / name, number))
    result = read_registry(given, load_profile(profile), Pseudonyms(Home(tmp_path)), "HAM", "dlv_1")
    rows = sum(fate.rows_count for fate in result.files.values())
    assert rows == sum(t.height for t in result.tables.values()) + result.folded_count + result.refusals.height
    return result


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_shipped_profile_fits_the_dictionary(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name and profile.description
    codes = {(e.name, v.name): v.codes for e in load_dictionary().entities.values() for v in e.variables if v.codes}
    for entity, tables in profile.entities.items():
        for table in tables:
            for variable, value in table.constants.items():
                assert value in codes.get((entity, variable), [value])


def csv(header: str, *rows: str) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def ms(day: str, zone: str = "Europe/London") -> int:
    """Midnight of a day there, in milliseconds since 1970."""
    return int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def optimise_files() -> dict[str, bytes]:
    """The archive of github.com/dsi-icl/optimise, exportDataController.js: SQL columns, then STUDYID and DOMAIN."""
    visit, summer = ms("2020-01-10"), ms("2020-06-15")
    qs = "edss:expanded disability status scale - "
    end = "optimise"
    return {
        "DM.csv": csv(
            "USUBJID,BRTHDTC,SEX,DOMINANT,ETHNIC,COUNTRY,STUDYID,DOMAIN",
            f"u-1,{ms('1955-03-01')},female,right,White,United Kingdom,{end},DM",
            f"u-2,{ms('1990-07-01')},prefer not to say,null,null,null,{end},DM",
        ),
        "MH_Diagnosis.csv": csv(
            "USUBJID,MHSTDTC,MHTERM,STUDYID,DOMAIN,MHCAT,MHSCAT",
            f"u-1,{summer},SPMS,{end},MH,PRIMARY DIAGNOSIS,ONSET COURSE",
            f"u-1,{visit},RRMS,{end},MH,PRIMARY DIAGNOSIS,ONSET COURSE",
            f"u-2,{visit},NMOSD Brain Stem,{end},MH,PRIMARY DIAGNOSIS,ONSET COURSE",
        ),
        "CE.csv": csv(
            "USUBJID,CETERM,CESTDTC,CEENDTC,CESEV,field,fieldId,deleted,STUDYID,DOMAIN",
            f"u-1,Relapse,{visit},{summer},null,,,,{end},CE",
            f"u-1,Relapse,{visit},{summer},Moderate,,,,{end},CE",
            f"u-1,Infection,{summer},null,null,,,,{end},CE",
            f"u-1,New symptom,{summer},null,null,,,,{end},CE",
            f"u-2,Death,{summer},null,null,,,,{end},CE",
        ),
        "EX.csv": csv(
            "USUBJID,EXTRT,EXCLAS,EXDOSE,EXDOSU,EXSTDTC,times,intervalUnit,EXROUTE,EXSTDTC_2,EXENDTC,terminatedReason,"
            "EXENDTC_2,REASON,MEDDRA,STUDYID,DOMAIN,EXDOSFRQ",
            f"u-1,Natalizumab (Tysabri),Disease Modifying,300,mg,{visit},1,6weeks,IV,{summer},{ms('2021-01-01')},13,"
            f"{ms('2020-07-15')},Adverse event,null,{end},EX,1 / 6 weeks",
            f"u-1,Baclofen,Symptomatic,10,mg,{visit},3,day,OR,null,null,null,null,null,null,{end},EX,3 / day",
            f"u-2,Rituximab (Mabthera, Truxima),Disease Modifying,1,mg,{visit},1,year,IV,"
            f"null,null,null,null,null,null,{end},EX,",
        ),
        "QS.csv": csv(
            "USUBJID,QSTEST,QSORRES,QSDTC,STUDYID,DOMAIN,QSSTRESN",
            f"u-1,{qs}estimated total,2.5,{summer},{end},QS,2.5",
            f"u-1,{qs}mental,1,{summer},{end},QS,1",
            f"u-1,edmus:edmus,6A,{summer},{end},QS,6A",
        ),
        "FT.csv": csv(
            "USUBJID,FTTEST,FTORRES,FTDTC,STUDYID,DOMAIN,FTSTRESN",
            f"u-1,25 feet walk test:trial n\ufffd1,5,{summer},{end},FT,5",
            f"u-1,25 feet walk test:trial n\ufffd2,6,{summer},{end},FT,6",
            f"u-1,nine hole peg test:left:trial n\ufffd1,20,{summer},{end},FT,20",
            f"u-1,visualacuity:symbol digit modality test,48,{summer},{end},FT,48",
        ),
        "VS.csv": csv(
            "USUBJID,VSTEST,VSORRES,VSORRESU,VSDTC,STUDYID,DOMAIN",
            f"u-1,reason for the visit,Drug Monitoring,null,{summer},{end},VS",
            f"u-1,weight,61,kg,{summer},{end},VS",
            f"u-1,smoking habit,ex-smoker,null,{summer},{end},VS",
        ),
        "MO.csv": csv(
            "USUBJID,MOTEST,MOORRES,MODTC,STUDYID,DOMAIN",
            f"u-1,region,Brain,{summer},{end},MO",
            f"u-1,T2 hyperintense lesions:count,None,{summer},{end},MO",
            f"u-1,T2 hyperintense lesions:New lesion(s) since last scan,0,{summer},{end},MO",
        ),
        "NV.csv": csv(
            "USUBJID,NVTEST,NVORRES,NVORRESU,NVLAT,NVDTC,VISITDY,STUDYID,DOMAIN,NVCAT",
            f"u-1,P100 Latency,120,msec,LEFT,{summer},{summer},{end},NV,Visual Evoked Potential (VEP)",
            f"u-1,P100 Interpretation,1,null,LEFT,{summer},{summer},{end},NV,Visual Evoked Potential (VEP)",
            f"u-1,SEP Lower Extremity,0,null,RIGHT,{summer},{summer},{end},NV,Visual Evoked Potential (VEP)",
        ),
        "LB.csv": csv(
            "USUBJID,LBTEST,LBORRES,LBDTC,STUDYID,DOMAIN,LBTESTCD",
            f"u-1,Full blood count:Total lymphocyte count,1500,{summer},{end},LB,x",
            f"u-1,Antibodies related to PML risk:Plasma anti-JC virus,Positive,{summer},{end},LB,x",
            f"u-1,Other antibodies:Jo1,Negative,{summer},{end},LB,x",
        ),
        "LBPR.csv": csv(
            "USUBJID,LBTEST,LBORRES,LBDTC,STUDYID,DOMAIN,LBTESTCD",
            f"u-1,Oligoclonal Bands in CSF,Equivocal (faint or bands in serum),{summer},{end},LB,x",
            "u-1,,,,,PR,",
        ),
        "MH_Relations.csv": csv("USUBJID,SREL,MHTERM,MHSTDTC,STUDYID,DOMAIN", f"u-1,mother,Diabetes,{visit},{end},MH"),
    }  # fmt: skip


def test_the_archive_of_optimise(tmp_path: Path) -> None:
    found = read(tmp_path, "optimise", optimise_files())
    tables = found.tables
    patients = {row["birth_date"]: row for row in tables["patient"].iter_rows(named=True)}
    assert patients[date(1955, 3, 1)]["disease_course"] == "SPMS"
    assert (
        patients[date(1990, 7, 1)] | {"sex": "U", "vital_status": "deceased", "death_date": date(2020, 6, 15)}
        == (patients[date(1990, 7, 1)])
    )
    assert sorted(tables["diagnosis"]["diagnosis"]) == ["NMOSD", "RRMS", "SPMS"]
    relapse = tables["relapse"].row(0, named=True)
    assert (relapse["relapse_date"], relapse["relapse_severity"]) == (date(2020, 1, 10), "moderate")
    assert tables["relapse"].height == tables["adverse_event"].height == 1
    visit = tables["visit"].row(0, named=True)
    wanted = {"visit_date": date(2020, 6, 15), "edss": 2.5, "fs_cerebral": 1, "t25fw_s": 5.5, "sdmt_score": 48}
    assert visit | wanted | {"weight_kg": 61.0, "visit_reason": "drug_monitoring"} == visit
    treatment = tables["treatment"].row(0, named=True)
    wanted = {"dmt": "natalizumab", "stop_reason": "not_tolerating", "route": "intravenous", "dose_interval": "6_weeks"}
    assert treatment | wanted | {"interruption_start_date": date(2020, 6, 15)} == treatment
    assert tables["mri_session"]["t2_lesion_category"].to_list() == ["none"]
    potentials = tables["evoked_potential"].sort("evoked_potential")
    assert potentials["is_evoked_potential_abnormal"].to_list() == [False, True]
    assert potentials["evoked_potential_latency_ms"].to_list() == [None, 120.0]
    assert tables["csf"]["oligoclonal_bands"].to_list() == ["equivocal"]
    assert tables["laboratory"].sort("laboratory_test").select("laboratory_value", "laboratory_result").rows() == [
        (None, "positive"),
        (1.5, None),
    ]
    # OPTIMISE:MS writes no quotes: a name with a comma makes one cell too many.
    assert found.refusals.select("entity", "source_row", "reason_code").rows() == [
        ("treatment", 4, "wrong_column_count")
    ]
    assert [f.reason_code for f in found.files.values() if f.status == "refused"] == ["unknown_table"]


def test_tables_of_edmus(tmp_path: Path) -> None:
    """github.com/acpuchades/hub-roche, src/edmus.r: UTF-16, tabs, days first, `?`; columns as selected there."""
    tables = {
        "BCN4-Personal-571-240422_173008-DEN.txt": "Patient ID\tLocal identifier\tDate of birth\tGender\tLast info\t"
        "Wait and see\tDate consent form\n1\t0042\t01/02/1980\tF\t03/04/2024\tFalse\t05/06/2015\n"
        "2\t\t?\tM\t\tTrue\t?\n",
        "edmus-diagnosis-220811_121631-DEP.txt": "Patient ID\tDisease Course\tMS Onset\tProgression Onset\n"
        "1\t4\t15/06/2005\t01/01/2018\n2\t6\t?\t\n",
        "edmus-clinical-220811_122451-DEP.txt": "Patient ID\tAssessment ID\tDate\tEDSS (entered)\tConcurrent relapse\n"
        "1\t9\t02/03/2020\t2.5\tYes\n1\t10\t02/09/2020\t?\tNo\n",
        "edmus-episodes-220811_121723-DEP.txt": "Patient ID\tEpisode ID\tDate\n1\t3\t20/02/2020\n",
        "edmus-trt_dm-230405_130357-DEN.txt": "Patient ID\tINN\tOnset date\tEnd date\tStatus\n"
        "1\tOCRELIZUMAB\t01/05/2020\t\tOngoing\n",
    }
    found = read(tmp_path, "edmus", {name: text.encode("utf-16") for name, text in tables.items()})
    assert found.refusals.is_empty()
    columns = ["sex", "birth_date", "disease_course", "onset_date"]
    assert found.tables["patient"].select(columns).rows() == [
        ("F", date(1980, 2, 1), "SPMS", date(2005, 6, 15)),
        ("M", None, "PPMS", None),
    ]
    assert found.tables["visit"].select("edss", "is_relapse_ongoing").rows() == [(2.5, True), (None, False)]
    assert found.tables["relapse"]["relapse_date"].to_list() == [date(2020, 2, 20)]
    assert found.tables["treatment"].select("dmt", "start_date").rows() == [("ocrelizumab", date(2020, 5, 1))]


def test_visits_of_msbase(tmp_path: Path) -> None:
    """github.com/cran/MSoutcomes, R/spmsDx.R: the twelve columns that it requires."""
    text = csv(
        "ID,dateEDSS,EDSS,FSpyr,FScrbl,FSbstem,FSsens,FSsph,FSvis,FScereb,FSamb,daysPostRelapse",
        "1,2015-03-02,4.5,3,2,1,2,1,1,0,2,412",
        "1,2015-09-02,NA,NA,NA,NA,NA,NA,NA,NA,NA,596",
    )
    found = read(tmp_path, "msbase", {"extract.csv": text})
    assert found.refusals.is_empty()
    names = ["edss", "fs_pyramidal", "fs_cerebellar", "fs_brainstem", "fs_sensory", "fs_bowel_bladder", "fs_visual"]
    assert found.tables["visit"].select(*names, "fs_cerebral", "fs_ambulation").row(0) == (4.5, 3, 2, 1, 2, 1, 1, 0, 2)
    assert found.tables["visit"]["edss"].to_list() == [4.5, None]


def test_visits_of_epic(tmp_path: Path) -> None:
    """The public select into msb_origins_visits.csv: commas, every cell in double quotes."""
    header = (
        "patient_external_identifier,external_identifier,date,age_at_visit,disease_duration,disease_course,msss,edss,"
        "fssc_visual,fssc_brainstem,fssc_pyramidal,fssc_cerebellar,fssc_sensory,fssc_bowel,fssc_mental,pasat_score,"
        "nhpt_dominant_time,nhpt_nondominant_time,nhpt_nondominant_incomplete,sdmt_score,sdmt_incomplete,"
        "timed_walk_trial1_time,timed_walk_trial2_time"
    )
    quoted = ",".join(f'"{name}"' for name in header.split(","))
    cells = "1001 77 2012-05-01 44.1 10.2 SP 3.5 4 1 0 2 2 2 1 1 51 21.5 23 0 50 0 6 7"
    row = ",".join(f'"{cell}"' for cell in cells.split())
    other = '"1002","78","05-02-2012",\\N,\\N,\\N,\\N,"2",\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,\\N,"6",\\N'
    found = read(tmp_path, "epic", {"msb_origins_visits.csv": csv(quoted, row, other)})
    assert found.refusals.is_empty()
    columns = ["visit_date", "visit_course", "edss", "pasat_score", "nhpt_nondominant_s", "t25fw_s"]
    assert found.tables["visit"].select(columns).rows() == [
        (date(2012, 5, 1), "SPMS", 4.0, 51, 23.0, 6.5),
        (date(2012, 5, 2), None, 2.0, None, None, 6.0),
    ]


def test_the_italian_minimum_dataset(tmp_path: Path) -> None:
    """PMC6329744, table 1: the variables; the names of columns are our proposal."""
    files = {
        "pazienti.csv": csv(
            "Patient;Sex;Birth date;State of life;Record creation date;Onset date;Course;Diagnosis date;"
            "McDonald criteria",
            "7;F;01/02/1980;alive;10/01/2016;06/2010;RRMS;2011;2010",
        ),
        "visite.csv": csv("Patient;Visit date;EDSS;Course", "7;03/02/2020;2,5;RRMS"),
        "ricadute.csv": csv(
            "Patient;Relapse date;Duration;Severity;Recovery;Steroid treatment;Visual",
            "7;01/01/2020;20;mild;complete;sì;sì",
        ),
    }
    found = read(tmp_path, "italian_register", files)
    assert found.refusals.is_empty()
    assert found.tables["patient"].select("onset_date", "diagnosis_criteria", "vital_status").rows() == [
        (date(2010, 6, 1), "mcdonald_2010", "alive")
    ]
    assert found.tables["visit"]["edss"].to_list() == [2.5]
    assert found.tables["relapse"].select("is_relapse_visual", "is_relapse_sensory").rows() == [(True, None)]


def test_the_tables_of_a_bids_dataset(tmp_path: Path) -> None:
    """github.com/bids-standard/bids-specification, columns.yaml: participant_id, session_id, acq_time, `n/a`."""
    files = {
        "participants.tsv": b"participant_id\tage\tsex\thandedness\tbirth_date\n"
        b"sub-01\t34\tf\tR\t1986\nsub-02\tn/a\tn/a\tn/a\tn/a\n",
        "sub-01_sessions.tsv": b"session_id\tacq_time\tedss\n"
        b"ses-01\t2020-06-15T13:45:30\t2.5\nses-02\t2021-06-15T13:45:30\tn/a\n",
        "sub-01_scans.tsv": b"filename\tacq_time\nanat/x.nii.gz\t2020-06-15T13:45:30\n",
    }  # fmt: skip
    found = read(tmp_path, "bids", files)
    assert found.tables["patient"].select("sex", "handedness").rows() == [("F", "right"), (None, None)]
    assert found.tables["mri_session"]["mri_date"].to_list() == [date(2020, 6, 15), date(2021, 6, 15)]
    assert found.tables["visit"].select("visit_date", "edss").rows() == [(date(2020, 6, 15), 2.5)]
    assert found.tables["visit"]["subject_key"][0] == found.tables["patient"]["subject_key"][0]
    assert found.files[3].reason_code == "unknown_table"


@pytest.mark.skipif(not OPEN_MS_DATA.is_dir(), reason="RANVIER_TEST_DATA does not hold ms_open_ms_data")
def test_the_patients_of_open_ms_data(tmp_path: Path) -> None:
    (tmp_path / "patient_info.csv").write_bytes((OPEN_MS_DATA / "cross_sectional" / "patient_info.csv").read_bytes())
    checked = check_folder(tmp_path, profile="open_ms_data")
    assert (checked.files_refused, checked.rows_count) == (0, 60)
    [edss] = [problem for problem in checked.problems if problem.rule == "R01"]
    assert "row 8" in edss.where  # patient 7 stands below the header and six others
    tables = read(tmp_path, "open_ms_data", {"patient_info.csv": (tmp_path / "patient_info.csv").read_bytes()}).tables
    assert tables["visit"]["edss"].null_count() == 3
    assert tables["patient"]["disease_course"].value_counts().sort("disease_course").rows() == [
        (None, 1), ("CIS", 2), ("PPMS", 1), ("RRMS", 24), ("SPMS", 2)
    ]  # fmt: skip
