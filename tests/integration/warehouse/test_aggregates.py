"""The published counts from release to release: when they stay, when they are counted anew, what the gate refuses."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from network import NOW, Lake, key, put, run_dbt

from warehouse import disclosure, releases
from warehouse.acceptance import accept
from warehouse.home import Home

AGGREGATES = ("mart_cohort_catalogue", "mart_imaging_qa")


def shown(folder: Path) -> list[list[tuple[Any, ...]]]:
    with duckdb.connect(str(folder / "open.duckdb"), read_only=True) as db:
        return [db.execute(f"select * from {table} order by all").fetchall() for table in AGGREGATES]


def subjects_of(folder: Path) -> int:
    with duckdb.connect(str(folder / "steward.duckdb"), read_only=True) as db:
        row = db.execute("select count(*) from dim_subject where is_shared").fetchone()
    assert row
    return int(row[0])


def send(home: Home, site: str, earlier: list[str], joining: int, leaving: str | None = None) -> None:
    """A delivery of subjects who share, and the withdrawal of one who did."""
    delivery = key("dlv")
    patients, consents = [], []
    for number in range(joining):
        row = {"delivery_key": delivery, "subject_key": key("sbj"), "file_number": 1, "source_row": number + 2}
        facts = {"sex": "M", "birth_date": date(1980, 1, 1), "onset_date": date(2010, 1, 1), "disease_course": "PPMS"}
        patients.append(row | facts | {"row_key": key("row")})
        consents.append(row | agreed() | {"row_key": key("row")})
    if leaving:
        row = {"delivery_key": delivery, "subject_key": leaving, "file_number": 1, "source_row": 99}
        consents.append(row | agreed() | {"withdrawal_date": date(2026, 11, 1), "row_key": key("row")})
    status = {"status": "read", "received_datetime": NOW + timedelta(hours=len(earlier)), "files_count": 2}
    put(home, "raw_lake__delivery", [status | {"delivery_key": delivery, "display_name": "2026-12"}], site, delivery)
    put(home, "raw_registry__patient", patients, site, delivery)
    put(home, "raw_registry__consent", consents, site, delivery)
    earlier.append(delivery)
    accept(home, site, earlier, now=NOW)


def agreed() -> dict[str, Any]:
    answers = ("is_registry_consented", "is_imaging_consented", "is_research_sharing_consented")
    return {"consent_date": date(2019, 4, 4)} | dict.fromkeys(answers, True)


def release(home: Home) -> dict[str, Any]:
    build = releases.start_build(home, now=NOW)
    run_dbt(build)
    manifest = releases.finish_build(home, build)
    releases.publish(home, build.version)
    return manifest


def test_counts_stay_while_few_subjects_changed_and_a_withdrawal_is_released(released: Lake, tmp_path: Path) -> None:
    shutil.copytree(released.home.root, tmp_path / "home", symlinks=True)
    home = Home(tmp_path / "home")
    before = releases.release_folder(home)
    sent = list(released.deliveries["AA"])
    send(home, "AA", sent, joining=2, leaving=released.by_state["AA/no_imaging"])
    manifest = release(home)
    after = releases.release_folder(home)
    assert after != before and subjects_of(after) == subjects_of(before) + 1
    assert manifest["aggregates"]["is_counted_anew"] is False
    assert shown(after) == shown(before), "three changed subjects would be told by the difference"
    send(home, "AA", sent, joining=7)
    manifest = release(home)
    assert manifest["aggregates"]["is_counted_anew"] is True
    assert shown(releases.release_folder(home)) != shown(before)


def rewritten(made: Lake, folder: Path, name: str, sql: str) -> dict[str, Path]:
    """The release's files with one of them changed."""
    copied = folder / "release"
    shutil.copytree(releases.release_folder(made.home), copied)
    (copied / name).chmod(0o600)
    with duckdb.connect(str(copied / name)) as db:
        db.execute(sql)
    return {str(p.relative_to(copied)): p for p in copied.rglob("*.duckdb")}


def problems(files: dict[str, Path]) -> list[str]:
    return disclosure.check_release(files, None, small_count_maximum=7, rounding=5)[0]


def test_the_gate_passes_the_release_and_names_a_small_count_that_is_shown(released: Lake, tmp_path: Path) -> None:
    change = "update mart_cohort_catalogue set subject_count = 5 where stratum = 'PPMS'"
    files = rewritten(released, tmp_path, "open.duckdb", change)
    assert "open.duckdb: mart_cohort_catalogue: disease_course = PPMS is small and is shown" in problems(files)
    files["open.duckdb"] = releases.release_folder(released.home) / "open.duckdb"
    assert problems({n: releases.release_folder(released.home) / n for n in files}) == []


def test_the_gate_names_a_small_count_that_others_tell(released: Lake, tmp_path: Path) -> None:
    """All 20 subjects and the 18 with RRMS, shown, leave 1 to 4 for PPMS, of whom there are 2."""
    change = (
        "update mart_cohort_catalogue set subject_count = 20 where stratum = 'all'"
        " or (stratum_kind = 'disease_course' and stratum = 'RRMS')"
    )
    files = rewritten(released, tmp_path, "open.duckdb", change)
    found = problems({name: files[name] for name in ("steward.duckdb", "open.duckdb")})
    assert any("the count of disease_course = PPMS can be worked out by" in one for one in found), found


def test_the_gate_names_a_file_that_withholds_otherwise(released: Lake, tmp_path: Path) -> None:
    change = "update mart_cohort_catalogue set subject_count = 25 where subject_count = 20"
    found = problems(rewritten(released, tmp_path, "site/AA.duckdb", change))
    assert found == ["site/AA.duckdb: mart_cohort_catalogue differs from that of open.duckdb"]


def test_an_unsafe_catalogue_is_not_published(released: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build as it is, and a rule that asks for more than it withheld for: nothing is published."""
    stricter = disclosure.load_structure().model_copy(update={"protection_width": 40})
    monkeypatch.setattr(disclosure, "load_structure", lambda: stricter)
    found = problems(rewritten(released, tmp_path, "open.duckdb", "select 1"))
    assert found and all("can be worked out" in one for one in found)
