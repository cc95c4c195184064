"""A release built by dbt from a lake: who is in which file, what is traceable, what the gate refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from network import NOW, Lake, delivery_row, key, make_home, make_lake, put, run_dbt

from warehouse import dbt, gate, lake, releases
from warehouse.acceptance import accept
from warehouse.errors import ReleaseError
from warehouse.home import Home
from warehouse.policy import load_policy


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute(sql).fetchall()


def files(made: Lake) -> dict[str, Path]:
    folder = releases.release_folder(made.home)
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def test_release_holds_nothing_but_tier_files_manifest_and_citation(released: Lake) -> None:
    assert sorted(files(released)) == [
        "CITATION.cff",
        "datacite.json",
        "manifest.json",
        "open.duckdb",
        "registered.duckdb",
        "site/AA.duckdb",
        "site/BB.duckdb",
        "steward.duckdb",
    ]
    assert releases.current_version(released.home) == "2026-11-24.1"
    assert str(released.home.current_release.readlink()) == "2026-11-24.1"


def test_hidden_subjects_stand_in_no_file_but_the_stewards(released: Lake) -> None:
    for name, path in files(released).items():
        content = path.read_bytes()
        if name == "steward.duckdb":
            continue
        assert not [k for k in released.hidden if k.encode() in content], name
        if not name.endswith(".duckdb"):
            continue
        # DuckDB compresses texts, so the decoded columns are searched as well as the bytes.
        with duckdb.connect(str(path), read_only=True) as db:
            for (table,) in db.execute("select table_name from duckdb_tables()").fetchall():
                text = " ".join(str(row) for row in db.execute(f"select * from {table}").fetchall())
                assert not [k for k in released.hidden if k in text], (name, table)


def test_the_search_would_find_a_key_that_is_there(released: Lake) -> None:
    path = files(released)["registered.duckdb"]
    subject = released.by_state["AA/shared"]
    assert rows(path, f"select count(*) from dim_subject where subject_key = '{subject}'") == [(1,)]
    problems, _ = gate.check_file("registered.duckdb", path, {subject})
    assert problems


def test_steward_has_everybody_with_the_state_of_consent(released: Lake) -> None:
    path = files(released)["steward.duckdb"]
    state = dict(rows(path, "select subject_key, consent_status from dim_subject"))
    assert len(state) == 26
    for name, subject in released.by_state.items():
        expected = name.split("/")[1].replace("no_imaging", "shared")
        assert state[subject] == expected


def test_any_fact_of_the_steward_can_be_traced(released: Lake) -> None:
    path = files(released)["steward.duckdb"]
    for table in load_policy().tiers["steward"]:
        if not table.startswith("fct_"):
            continue
        untraced = rows(
            path,
            f"select count(*) from {table} where site_code is null or delivery_key is null"
            " or release_version is distinct from '2026-11-24.1'",
        )
        assert untraced == [(0,)], table
        assert set(rows(path, f"select distinct site_code, delivery_key from {table}")) == {
            (site, keys[0]) for site, keys in released.deliveries.items()
        }


def test_registered_has_no_exact_date_and_nothing_that_tells_the_site(
    released: Lake,
) -> None:
    path = files(released)["registered.duckdb"]
    columns = rows(
        path,
        "select table_name, column_name, data_type from information_schema.columns",
    )
    names = {str(column) for _, column, _ in columns}
    assert not names & {
        "site_code",
        "delivery_key",
        "row_key",
        "scanner_key",
        "manufacturer",
        "model",
        "birth_date",
    }
    assert not [c for c in columns if str(c[2]).startswith(("DATE", "TIMESTAMP"))]
    content = path.read_bytes()
    assert b"dlv_" not in content and b"scn_" not in content
    assert rows(path, "select distinct visit_year from fct_visit order by 1") == [
        (2022,),
        (2023,),
        (2024,),
    ]


def test_open_holds_aggregates_whose_small_counts_are_redacted_then_rounded(
    released: Lake,
) -> None:
    path = files(released)["open.duckdb"]
    tables = {row[0] for row in rows(path, "select table_name from information_schema.tables")}
    assert tables == {
        "dim_variable",
        "dim_dmt",
        "dim_measure",
        "mart_cohort_catalogue",
        "mart_imaging_qa",
    }
    assert not re.search(rb"(sbj|ser)_[0-9a-f]{8}", path.read_bytes())
    exact = {
        (kind, stratum): count
        for kind, stratum, count in rows(files(released)["steward.duckdb"], "select * from mart_cohort_catalogue")
    }
    shown = {
        (kind, stratum): count
        for kind, stratum, count in rows(
            path,
            "select stratum_kind, stratum, subject_count from mart_cohort_catalogue",
        )
    }
    assert set(shown) - set(exact) == {
        (kind, "total") for kind in ("sex", "disease_course", "age_at_onset", "edss_band")
    }
    assert min(exact.values()) <= 7 < max(exact.values())
    assert any(shown.values())
    for stratum, count in exact.items():
        assert shown[stratum] in ({None} if count <= 7 else {None, int(count / 5 + 0.5) * 5})


def test_site_file_holds_its_own_rows_and_the_networks_aggregates(
    released: Lake,
) -> None:
    path = files(released)["site/AA.duckdb"]
    assert b"BB" not in b"".join(str(rows(path, f"select * from {t}")).encode() for t in ("fct_visit", "dim_site"))
    subjects = {row[0] for row in rows(path, "select subject_key from dim_subject")}
    assert subjects and subjects < released.shared
    assert rows(
        path,
        "select count(*) from fct_visit where visit_date is null or site_code != 'AA'",
    ) == [(0,)]
    assert rows(path, "select count(*) from network_imaging_qa") == [(3,)]
    assert rows(path, "select max(series_count) from network_imaging_qa") == [(20,)]


def test_refused_series_are_out_of_the_facts_but_counted(released: Lake) -> None:
    path = files(released)["steward.duckdb"]
    counts = rows(
        path,
        "select series_received_count, series_accepted_count, series_refused_count from mart_site_kpi",
    )
    assert counts == [(15, 13, 2), (15, 13, 2)]


def test_manifest_says_what_is_in(released: Lake) -> None:
    manifest = json.loads(files(released)["manifest.json"].read_text())
    for name, facts in manifest["files"].items():
        assert lake.sha256_file(files(released)[name]) == facts["sha256"]
    assert manifest["row_counts"]["registered.duckdb"]["dim_subject"] == 20
    assert manifest["sites"]["AA"]["deliveries"] == released.deliveries["AA"]
    assert manifest["dictionary_version"]


def test_nothing_of_dbt_is_written_into_the_project(released: Lake) -> None:
    assert not [p for p in dbt.PROJECT.iterdir() if p.name in ("target", "logs", ".user.yml", "dbt_packages")]


def test_newer_deliveries_win_replaced_ones_drop_out_and_a_failed_site_keeps_its_data(
    tmp_path: Path,
) -> None:
    made = make_lake(tmp_path)
    home = made.home
    subject = made.by_state["AA/shared"]
    revoked = next(iter(sorted(made.shared & {k for k in made.shared if k.startswith("sbj")} - {subject})))
    first = made.deliveries["AA"][0]
    site_of = dict(lake.read_table(home, "raw_registry__patient").select("subject_key", "site_code").iter_rows())
    # A second delivery corrects one visit; its first visit's row breaks a rule and is left out.
    second = key("dlv")
    old = lake.read_table(home, "raw_registry__visit", "AA").filter(pl.col("subject_key") == subject).sort("visit_date")
    newer = [r | {"delivery_key": second, "row_key": key("row"), "edss": 6.5} for r in old.to_dicts()[:2]]
    put(home, "raw_registry__visit", newer, "AA", second)
    put(
        home,
        "raw_qa__refused_row",
        [
            {
                "delivery_key": second,
                "row_key": newer[1]["row_key"],
                "entity": "visit",
                "rule_id": "R01",
            }
        ],
        "AA",
    )
    put(home, "raw_lake__delivery", [delivery_row("AA", second, hours=1)], "AA", second)
    accept(home, "AA", [second], now=NOW)
    # Somebody's newest consent is refused: the older yes must not come back.
    site = site_of[revoked]
    third = key("dlv")
    consent = lake.read_table(home, "raw_registry__consent", site).filter(pl.col("subject_key") == revoked).to_dicts()
    put(
        home,
        "raw_registry__consent",
        [c | {"delivery_key": third, "row_key": "c1"} for c in consent],
        site,
        third,
    )
    refused = lake.read_table(home, "raw_qa__refused_row", site).to_dicts()
    put(
        home,
        "raw_qa__refused_row",
        [
            *refused,
            {
                "delivery_key": third,
                "row_key": "c1",
                "entity": "consent",
                "rule_id": "KEY_consent",
            },
        ],
        site,
    )
    put(home, "raw_lake__delivery", [delivery_row(site, third, hours=2)], site, third)
    accept(home, site, [third], now=NOW)
    # BB's newest delivery cannot be read at all.
    broken = key("dlv")
    put(
        home,
        "raw_lake__delivery",
        [delivery_row("BB", broken, "unreadable", hours=9)],
        "BB",
        broken,
    )
    accept(home, "BB", [broken], now=NOW)
    # A delivery nobody accepted, and one of AA that is replaced as a whole.
    ignored, replaced, corrected = key("dlv"), key("dlv"), key("dlv")
    stranger = key("sbj")
    put(
        home,
        "raw_registry__patient",
        [
            {
                "delivery_key": ignored,
                "row_key": "x",
                "subject_key": stranger,
                "source_row": 2,
                "sex": "F",
            }
        ],
        "BB",
        ignored,
    )
    dropped = key("sbj")
    put(
        home,
        "raw_registry__patient",
        [
            {
                "delivery_key": replaced,
                "row_key": "y",
                "subject_key": dropped,
                "source_row": 2,
                "sex": "F",
            }
        ],
        "AA",
        replaced,
    )
    put(
        home,
        "raw_lake__delivery",
        [delivery_row("AA", replaced, hours=3)],
        "AA",
        replaced,
    )
    put(
        home,
        "raw_lake__delivery",
        [delivery_row("AA", corrected, hours=4)],
        "AA",
        corrected,
    )
    accept(home, "AA", [replaced], now=NOW)
    accept(home, "AA", [corrected], now=NOW, supersedes={corrected: replaced})

    build = releases.start_build(home, now=NOW)
    run_dbt(build)
    manifest = releases.finish_build(home, build)
    releases.publish(home, build.version)
    steward = releases.release_folder(home) / "steward.duckdb"
    visits = rows(
        steward,
        f"select edss, delivery_key from fct_visit where subject_key = '{subject}' order by visit_date",
    )
    assert visits == [(6.5, second), (2.5, first), (3.0, first)]
    assert rows(
        steward,
        f"select consent_status from dim_subject where subject_key = '{revoked}'",
    ) == [("not_shared",)]
    absent = f"select count(*) from dim_subject where subject_key in ('{stranger}', '{dropped}')"
    assert rows(steward, absent) == [(0,)]
    assert manifest["sites"]["BB"]["is_newest_delivery_failed"]
    assert manifest["sites"]["BB"]["keeps_last_accepted"] in manifest["sites"]["BB"]["deliveries"]
    assert not manifest["sites"]["AA"]["is_newest_delivery_failed"]
    assert replaced not in manifest["sites"]["AA"]["deliveries"]

    # The gate: a build that holds one key too many, or one column too many, is not published.
    second_build = releases.start_build(home, now=NOW)
    assert second_build.version == "2026-11-24.2"
    run_dbt(second_build)
    with duckdb.connect(str(second_build.folder / "registered.duckdb")) as db:
        db.execute(f"update fct_verdict set rule_ids = 'see {made.by_state['AA/withdrawn']}'")
        db.execute("alter table fct_visit add column site_code varchar")
    with pytest.raises(ReleaseError, match="fct_visit does not hold what the policy says"):
        releases.finish_build(home, second_build)
    with duckdb.connect(str(second_build.folder / "registered.duckdb")) as db:
        db.execute("alter table fct_visit drop column site_code")
    with pytest.raises(ReleaseError, match="holds a key of a subject who does not share"):
        releases.finish_build(home, second_build)
    assert releases.current_version(home) == "2026-11-24.1"


def test_empty_network_still_builds(tmp_path: Path) -> None:
    home = make_home(tmp_path, sites=())
    build = releases.start_build(home, now=NOW)
    run_dbt(build)
    manifest = releases.finish_build(home, build)
    assert manifest["row_counts"]["steward.duckdb"]["dim_subject"] == 0
    assert manifest["row_counts"]["open.duckdb"]["dim_variable"] > 30


def test_build_without_dbt_is_not_published(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    build = releases.start_build(home, now=NOW)
    with pytest.raises(ReleaseError, match="dbt has not run"):
        releases.finish_build(home, build)
    assert releases.list_releases(home) == []


def test_builds_of_dead_processes_are_removed_and_living_ones_kept(
    tmp_path: Path,
) -> None:
    home = make_home(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from datetime import datetime, UTC;"
        "from warehouse import releases; from warehouse.home import Home;"
        f"b = releases.start_build(Home(Path({str(tmp_path)!r})), now=datetime.now(UTC));"
        "print(b.folder, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    mine = releases.start_build(home, now=NOW + timedelta(days=1))
    assert folder.is_dir()
    other.send_signal(signal.SIGKILL)
    other.wait()
    releases.start_build(home, now=NOW + timedelta(days=1))
    assert not folder.exists()
    assert mine.folder.is_dir()


def test_release_that_was_tampered_with_is_not_published(released: Lake, tmp_path: Path) -> None:
    home = Home(tmp_path)
    target = home.releases / "2026-11-24.1"
    target.mkdir(parents=True)
    for name, path in files(released).items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(path.read_bytes())
    releases.publish(home, "2026-11-24.1")
    (target / "open.duckdb").write_bytes(b"something else")
    with pytest.raises(ReleaseError, match=r"open\.duckdb is not the file that was built"):
        releases.publish(home, "2026-11-24.1")


def test_unknown_release_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="ranvier run"):
        releases.release_folder(Home(tmp_path))
    for version in ("2026-01-01.1", "../x", ""):
        with pytest.raises(ReleaseError):
            releases.release_folder(Home(tmp_path), version)
