"""Files of projects and presets, built by dbt: who is in them, under which keys, with what between their dates."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml
from network import NOW, Lake, make_lake, put, run_dbt

from warehouse import dbt, gate, gateway, lake, projects, reissue, releases
from warehouse.errors import QueryRefused, ReleaseError
from warehouse.home import Home
from warehouse.policy import load_policy
from warehouse.projects import Project
from warehouse.pseudonyms import Pseudonyms

TODAY = NOW.date()
KEYED = ("sbj_", "ses_", "ser_")


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute(sql).fetchall()


def texts(path: Path) -> set[str]:
    """Every text of every table."""
    found: set[str] = set()
    with duckdb.connect(str(path), read_only=True) as db:
        for (table,) in db.execute("select table_name from duckdb_tables()").fetchall():
            for row in db.execute(f"select * from {table}").fetchall():
                found |= {cell for cell in row if isinstance(cell, str)}
    return found


def release(made: Lake) -> Path:
    build = releases.start_build(made.home, now=NOW)
    run_dbt(build)
    releases.finish_build(made.home, build)
    releases.publish(made.home, build.version)
    return releases.release_folder(made.home)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Path]:
    """A release with three projects that are built, one that has expired and one that is closed."""
    made = make_lake(tmp_path_factory.mktemp("projects"))
    dbt.prepare(made.home)
    for name, scope, until in (
        ("tables", ("share_research",), TODAY),
        ("scans", ("share_research", "imaging"), date(2027, 1, 1)),
        ("abroad", ("share_research", "share_outside_eu"), date(2027, 1, 1)),
        ("old", ("share_research",), date(2026, 11, 23)),
        ("closed", ("share_research",), date(2027, 1, 1)),
    ):
        projects.add_project(made.home, Project(name, scope, until), today=date(2026, 11, 1))
    projects.close_project(made.home, "closed")
    # In AA six subjects allow that their data leave the EU; the others do not say, which means no.
    consent = lake.read_table(made.home, "raw_registry__consent", "AA").to_dicts()
    told = [
        row | {"is_outside_eu_sharing_consented": True if number < 6 else None} for number, row in enumerate(consent)
    ]
    put(made.home, "raw_registry__consent", told, "AA", made.deliveries["AA"][0])
    return made, release(made)


def test_only_active_projects_have_a_file(network: tuple[Lake, Path]) -> None:
    _, folder = network
    assert sorted(p.name for p in (folder / "controlled").iterdir()) == [
        "abroad.duckdb",
        "scans.duckdb",
        "tables.duckdb",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"controlled/abroad.duckdb", "controlled/scans.duckdb"} <= set(manifest["files"])


def test_subjects_are_those_whose_consent_covers_the_scope(network: tuple[Lake, Path]) -> None:
    _, folder = network
    count = "select count(*) from dim_subject"
    assert rows(folder / "controlled/tables.duckdb", count) == [(20,)]
    assert rows(folder / "controlled/scans.duckdb", count) == [(18,)]
    assert rows(folder / "controlled/abroad.duckdb", count) == [(6,)]


def test_scans_are_for_projects_with_that_scope(network: tuple[Lake, Path]) -> None:
    _, folder = network
    imaging = {t.name for t in load_policy().tiers["controlled"].values() if t.scope == "imaging"}
    held = {
        name: {row[0] for row in rows(folder / f"controlled/{name}.duckdb", "select table_name from duckdb_tables()")}
        for name in ("tables", "scans")
    }
    assert held["scans"] - held["tables"] == imaging
    assert rows(folder / "controlled/scans.duckdb", "select count(*) from fct_mri_series") == [(18,)]


def test_no_key_of_the_network_or_of_another_project_stands_in_a_file(network: tuple[Lake, Path]) -> None:
    made, folder = network
    seen: dict[str, set[str]] = {
        name: {text for text in texts(folder / f"controlled/{name}.duckdb") if text.startswith(KEYED)}
        for name in ("tables", "scans", "abroad")
    }
    assert all(len(keys) >= 6 for keys in seen.values())
    assert not seen["tables"] & seen["scans"] and not seen["scans"] & seen["abroad"]
    networks = made.shared | made.hidden
    for name, keys in seen.items():
        assert not keys & networks
        content = (folder / f"controlled/{name}.duckdb").read_bytes()
        assert not [key for key in networks if key.encode() in content]


def test_a_project_that_is_over_is_not_answered(network: tuple[Lake, Path], tmp_path: Path) -> None:
    made, _ = network
    home = Home(tmp_path / "home")
    shutil.copytree(made.home.root, home.root, symlinks=True)
    assert gateway.tier_file(home, "controlled", project="scans").name == "scans.duckdb"
    projects.close_project(home, "scans")
    assert (releases.release_folder(home) / "controlled/scans.duckdb").is_file()
    for name in ("scans", "old", "../steward"):
        with pytest.raises(QueryRefused, match="no file for that project"):
            gateway.tier_file(home, "controlled", project=name)


def test_a_subject_who_leaves_leaves_the_projects_too(network: tuple[Lake, Path], tmp_path: Path) -> None:
    made, folder = network
    home = Home(tmp_path / "home")
    shutil.copytree(made.home.root, home.root, symlinks=True)
    sharing = rows(folder / "steward.duckdb", "select subject_key from dim_subject where is_shared order by 1")
    gone = str(sharing[0][0])
    own = Pseudonyms(home).keys_in_project("tables", {gone})
    assert own and rows(folder / "controlled/tables.duckdb", f"from dim_subject where subject_key in {(*own, '')}")
    (issued,) = reissue.reissue(home, frozenset({gone}), reason="withdrawn", now=NOW)
    new = releases.release_folder(home, issued.new)
    assert rows(new / "controlled/tables.duckdb", "select count(*) from dim_subject") == [(19,)]
    for path in (new / "controlled").glob("*.duckdb"):
        left = Pseudonyms(home).keys_in_project(path.stem, {gone})
        assert not left & texts(path)
        assert not [key for key in left if key.encode() in path.read_bytes()]


def test_dates_move_and_the_days_between_them_stay(network: tuple[Lake, Path]) -> None:
    _, folder = network
    spans = (
        "select age_at_onset_years, max(visit_date) - min(visit_date) as span, min(visit_date) - onset_date as since,"
        " count(*) from dim_subject join fct_visit using (subject_key) {}"
        " group by subject_key, age_at_onset_years, onset_date order by all"
    )
    exact = rows(folder / "steward.duckdb", spans.format("where dim_subject.is_shared"))
    assert rows(folder / "controlled/tables.duckdb", spans.format("")) == exact
    before = {row[0] for row in rows(folder / "steward.duckdb", "select distinct visit_date from fct_visit")}
    days = rows(folder / "controlled/tables.duckdb", "select subject_key, min(visit_date) from fct_visit group by 1")
    other = rows(folder / "controlled/scans.duckdb", "select subject_key, min(visit_date) from fct_visit group by 1")
    assert len({day for _, day in days} - before) > 10
    assert sorted(str(day) for _, day in days) != sorted(str(day) for _, day in other)


def test_anonymity_is_reached_and_told_in_the_manifest(network: tuple[Lake, Path]) -> None:
    _, folder = network
    told = json.loads((folder / "manifest.json").read_text())["anonymity"]
    assert told["registered.duckdb"]["k"] >= told["registered.duckdb"]["k_asked"] == 11
    assert told["registered.duckdb"]["l"]["disease_course"] >= 2
    assert told["registered.duckdb"]["subjects"] == 20
    assert set(told["registered.duckdb"]["cells_suppressed"]) == {
        "diagnosis_year", "onset_year", "age_at_onset_band", "sex", "disease_course",
    }  # fmt: skip
    assert told["controlled/abroad.duckdb"]["k"] >= 5


def test_the_gate_refuses_a_small_class_and_names_its_columns_only(network: tuple[Lake, Path], tmp_path: Path) -> None:
    _, folder = network
    copy = tmp_path / "registered.duckdb"
    copy.write_bytes((folder / "registered.duckdb").read_bytes())
    copy.chmod(0o600)
    policy = load_policy()
    assert gate.check_anonymity("registered.duckdb", copy, policy)[0] == []
    with duckdb.connect(str(copy)) as db:
        db.execute(
            "update dim_subject set onset_year = 1987 where subject_key = (select min(subject_key) from dim_subject)"
        )
    problems, reached = gate.check_anonymity("registered.duckdb", copy, policy)
    assert reached["k"] == 1
    assert any("fewer than 11 subjects" in p and "onset_year" in p for p in problems)
    assert any("fewer than 2 values of disease_course" in p for p in problems)
    assert not [p for p in problems if "1987" in p or "sbj_" in p]


def test_a_build_that_is_not_anonymous_is_not_published(network: tuple[Lake, Path]) -> None:
    made, _ = network
    network_file = made.home.network_file
    before = network_file.read_text()
    network_file.write_text(yaml.safe_dump(yaml.safe_load(before) | {"policy": {"preset": "hcp"}}))
    build = releases.start_build(made.home, now=NOW)
    run_dbt(build)
    registered = build.folder / "registered.duckdb"
    try:
        # The preset: health data has left the file, ages are in bands of five years.
        held = {str(row[0]) for row in rows(registered, "select column_name from information_schema.columns")}
        assert "visit_year" in held and not held & {"edss", "disease_course", "stop_reason", "gd_lesion_count"}
        bands = {
            row[0]
            for row in rows(build.folder / "steward.duckdb", "select distinct age_at_onset_band from dim_subject")
        }
        assert bands == {"31-35"}
        strata = rows(
            build.folder / "open.duckdb",
            "select stratum from mart_cohort_catalogue where stratum_kind = 'age_at_onset'",
        )
        assert set(strata) == {("31-35",), ("total",)}
        assert {
            row[0] for row in rows(build.folder / "controlled/tables.duckdb", "select distinct edss from fct_visit")
        }
        with duckdb.connect(str(registered)) as db:
            db.execute(
                "update dim_subject set sex = 'X' where subject_key = (select min(subject_key) from dim_subject)"
            )
        with pytest.raises(ReleaseError, match=r"a class of dim_subject by .* has fewer than 11 subjects"):
            releases.finish_build(made.home, build)
        with duckdb.connect(str(registered)) as db:
            db.execute("update dim_subject set sex = 'F' where sex = 'X'")
        manifest = releases.finish_build(made.home, build)
        assert manifest["policy"]["name"] == "hcp"
    finally:
        network_file.write_text(before)


def test_subjects_in_every_table_are_those_of_dim_subject(network: tuple[Lake, Path]) -> None:
    _, folder = network
    for name, tier in (("registered", "registered"), ("controlled/scans", "controlled")):
        path = folder / f"{name}.duckdb"
        subjects = {row[0] for row in rows(path, "select subject_key from dim_subject")}
        for table in load_policy().tiers[tier].values():
            if table.is_personal:
                held = {row[0] for row in rows(path, f"select distinct subject_key from {table.name}")}
                assert held and held <= subjects, table.name


@pytest.mark.slow
def test_a_network_smaller_than_k_has_nobody_in_registered(tmp_path: Path) -> None:
    made = make_lake(tmp_path)
    dbt.prepare(made.home)
    made.home.network_file.write_text(yaml.safe_dump({"sites": [{"code": "AA"}, {"code": "BB"}], "policy": {"k": 21}}))
    folder = release(made)
    for table in load_policy().tiers["registered"].values():
        if table.is_personal:
            assert rows(folder / "registered.duckdb", f"select count(*) from {table.name}") == [(0,)]
    told = json.loads((folder / "manifest.json").read_text())["anonymity"]["registered.duckdb"]
    assert (told["subjects"], told["subjects_left_out"]) == (0, 20)


def test_releases_follow_the_policy_and_the_projects(network: tuple[Lake, Path]) -> None:
    made, _ = network
    first = releases.inputs_sha256(made.home, TODAY)
    assert releases.inputs_sha256(made.home, TODAY) == first
    assert releases.inputs_sha256(made.home, date(2026, 11, 25)) != first  # a project has expired


def test_old_parts_of_the_lake_lack_new_columns(tmp_path: Path) -> None:
    made = make_lake(tmp_path)
    path = lake.part_path(made.home, "raw_registry__consent", "AA", made.deliveries["AA"][0])
    lake.write_parquet(path, pl.read_parquet(path).drop("is_commercial_use_consented"))
    assert lake.read_table(made.home, "raw_registry__consent")["is_commercial_use_consented"].null_count() > 0
