"""Real scans of real heads, fruit and phantoms, one set per site, through `ranvier run`."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import REPOSITORY, Run
from warehouse.home import Home
from warehouse.lake import read_table

DATA = Path(os.environ.get("RANVIER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
SETS = {
    "ELITION": "t1w_philips_elitionx/dicom",
    "FORREST": "t1w_philips_studyforrest",
    "POSITION": "siemens_prisma_positioning",
    "FRUIT": "t1_ge_hdxt_fruit_deident",
    "PIONEER": "dwi_ge_pioneer_phantom",
    "TRIO": "fmri_siemens_trio_mosaic/dicom",
    "PRISMA": "siemens_prisma_dwi_fmri",
    "FMRI": "fmri_philips_studyforrest",
    "OPENMS": "ms_open_ms_data/longitudinal",
}


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real scans are not at {DATA}; set RANVIER_TEST_DATA"),
]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, ranvier: Run) -> pl.DataFrame:
    root = tmp_path_factory.mktemp("real") / "home"
    assert ranvier("init", root).returncode == 0
    for code, folder in SETS.items():
        assert ranvier("site", "add", code, "--home", root).returncode == 0
        target = root / "landing" / code / "first"
        source = DATA / folder if (DATA / folder).is_dir() else DATA / folder.split("/")[0]
        shutil.copytree(source, target)
        for archive in list(target.rglob("*.tar.xz")):
            with tarfile.open(archive) as tar:
                tar.extractall(archive.parent / archive.name.removesuffix(".tar.xz"), filter="data")
            archive.unlink()
        (target / "_COMPLETE").touch()
    done = ranvier("run", "--home", root, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    home = Home(root)
    files = read_table(home, "raw_lake__file")
    sent = sum(1 for path in home.landing.rglob("*") if path.is_file())
    assert files.height == sent
    assert files.filter((pl.col("status") == "refused") & pl.col("reason").is_null()).is_empty()
    known = read_table(home, "raw_imaging__series")
    claimed = files.filter(pl.col("status") == "accepted").drop_nulls("series_key")
    assert set(claimed["series_key"]) <= set(known["series_key"])
    return known.join(
        read_table(home, "raw_qa__verdict").select("series_key", "verdict", "reasons", "rule_ids", "is_refused"),
        on="series_key",
        how="left",
    )


def of(series: pl.DataFrame, site: str) -> pl.DataFrame:
    return series.filter(pl.col("site_code") == site)


@pytest.mark.parametrize("site", ["ELITION", "FORREST"])
def test_philips_heads_are_measured_and_judged(series: pl.DataFrame, site: str) -> None:
    found = of(series, site).filter(pl.col("status") == "accepted")
    assert "T1w" in found["contrast"].to_list()
    assert "pass" in found.filter(pl.col("contrast") == "T1w")["verdict"].to_list()


def test_a_cut_head_fails_and_the_side_is_named(series: pl.DataFrame) -> None:
    heads = {row["patient_position"]: row for row in of(series, "POSITION").iter_rows(named=True)}
    assert heads["HFS"]["verdict"] == "pass"
    for position, side in {"HFP": "occiput", "HFDL": "right", "HFDR": "below"}.items():
        row = heads[position]
        assert row["verdict"] == "fail"
        assert "IMG_CUT_OFF" in row["rule_ids"]
        assert side in " ".join(row["reasons"])
    assert "below" in " ".join(heads["HFDL"]["reasons"])


def test_what_is_no_head_is_refused(series: pl.DataFrame) -> None:
    for site in ("FRUIT", "PIONEER"):
        found = of(series, site)
        assert found.height
        assert all(row["is_refused"] or row["status"] == "refused" for row in found.iter_rows(named=True))


def test_bold_and_dwi_are_converted_and_left_open(series: pl.DataFrame) -> None:
    found = series.filter(pl.col("contrast").is_in(["bold", "dwi"]) & ~pl.col("is_refused").fill_null(True))
    assert {"bold", "dwi"} <= set(found["contrast"])
    assert found["bids_path"].null_count() == 0
    for row in found.filter(pl.col("status") == "accepted").iter_rows(named=True):
        assert row["verdict"] == "undetermined"
        assert "not available yet" in " ".join(row["reasons"])


def test_a_patients_nifti_files_are_taken(series: pl.DataFrame) -> None:
    found = of(series, "OPENMS").filter(pl.col("status") == "accepted")
    assert {"T1w", "T2w", "FLAIR"} <= set(found["contrast"])
    assert found["verdict"].null_count() == 0
