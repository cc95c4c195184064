"""The life of a release after its build: publish, roll back, compare, prune, issue again, trace, cite."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml
from network import NOW, Lake, delivery_row, key, put

from warehouse import citation, lake, lineage, manifest, reissue, release_diff, releases, retention
from warehouse.acceptance import accept
from warehouse.consent import withdrawn_subjects
from warehouse.errors import RanvierError, ReleaseError
from warehouse.home import Home

ROOT = Path(__file__).parents[3]
FIRST = "2026-11-24.1"


def sql(path: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute(query).fetchall()


@pytest.fixture
def made(released: Lake, tmp_path: Path) -> Lake:
    """A copy of the released network that a test may change."""
    root = tmp_path / "home"
    shutil.copytree(released.home.root, root, symlinks=True)
    return Lake(Home(root), released.shared, released.hidden, released.by_state, released.deliveries)


def another(home: Home, version: str, days: int = 1) -> None:
    """One more release with the same content, built later, under its own version."""
    folder = home.releases / version
    shutil.copytree(home.releases / FIRST, folder)
    folder.chmod(0o700)
    content = manifest.read(folder)
    built = (NOW + timedelta(days=days)).isoformat()
    (folder / manifest.NAME).unlink()
    lake.write_json(folder / manifest.NAME, content | {"version": version, "built_datetime": built})


def withdraw(made: Lake, name: str = "AA/shared") -> str:
    """A new delivery in which a subject who shared withdraws; no release knows of it yet."""
    subject, site = made.by_state[name], name.split("/")[0]
    delivery = key("dlv")
    row = {
        "delivery_key": delivery,
        "row_key": f"{delivery}-consent-1-2",
        "subject_key": subject,
        "source_row": 2,
        "is_registry_consented": True,
        "is_imaging_consented": True,
        "is_research_sharing_consented": True,
        "withdrawal_date": date(2026, 11, 1),
    }
    put(made.home, "raw_registry__consent", [row], site, delivery)
    put(made.home, "raw_lake__delivery", [delivery_row(site, delivery, hours=5)], site, delivery)
    accept(made.home, site, [delivery], now=NOW)
    return subject


def decisions(home: Home) -> list[tuple[str, str]]:
    return [(entry["action"], entry["release"]) for entry in releases.decisions(home)]


def keys_of(steward: Path, subject: str) -> set[str]:
    rows = sql(
        steward,
        f"select unnest([subject_key, session_key, series_key]) from fct_mri_series where subject_key = '{subject}'",
    )
    return {str(row[0]) for row in rows}


def holders(folder: Path, keys: set[str]) -> set[str]:
    """Files that hold one of the keys, by their bytes and by every decoded text: another way than the code's own."""
    found = set()
    for path in folder.rglob("*.duckdb"):
        content = path.read_bytes()
        with duckdb.connect(str(path), read_only=True) as db:
            tables = [name for (name,) in db.execute("select table_name from duckdb_tables()").fetchall()]
            texts = " ".join(str(db.execute(f"select * from {table}").fetchall()) for table in tables)
        if any(k.encode() in content or k in texts for k in keys):
            found.add(path.relative_to(folder).as_posix())
    return found


def test_nobody_writes_into_a_release(released: Lake) -> None:
    folder = releases.release_folder(released.home)
    for path in (folder, *folder.rglob("*")):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IRWXO), path.name


def test_manifest_names_everything_the_release_follows_from(released: Lake) -> None:
    content = manifest.read(releases.release_folder(released.home))
    part = lake.part_path(released.home, "raw_registry__visit", "AA", released.deliveries["AA"][0])
    visits = content["inputs"]["raw_registry__visit"]
    assert visits["parts_count"] == 2 and visits["bytes_count"] > part.stat().st_size
    before = manifest.input_hashes(released.home)["raw_registry__visit"]["sha256"]
    assert visits["sha256"] == before
    assert len(content["policy"]["sha256"]) == len(content["dictionary_sha256"]) == 64
    assert set(content["sites"]["AA"]["delivery_sha256"]) == set(released.deliveries["AA"])
    open_file = releases.release_folder(released.home) / "open.duckdb"
    blanks = sql(open_file, "select count(*) from mart_cohort_catalogue where subject_count is null")
    assert content["suppressed_counts"]["open.duckdb"]["mart_cohort_catalogue"] == blanks[0][0] > 0
    assert content["gate"] == {"is_passed": True, "problems": []}


def test_publish_refuses_what_the_gate_did_not_pass(made: Lake) -> None:
    another(made.home, "2026-11-25.1")
    folder = made.home.releases / "2026-11-25.1"
    content = manifest.read(folder) | {"gate": {"is_passed": False, "problems": ["fct_visit is wrong"]}}
    lake.write_json(folder / manifest.NAME, content)
    with pytest.raises(ReleaseError, match="fct_visit is wrong"):
        releases.publish(made.home, "2026-11-25.1")
    assert releases.current_version(made.home) == FIRST


def test_rollback_goes_to_the_release_before_and_is_not_undone_by_the_next_run(made: Lake) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    releases.publish(home, "2026-11-25.1", by="ann")
    with pytest.raises(ReleaseError, match="--reason"):
        releases.rollback(home, reason=" ")
    state = releases.is_due(home)
    assert releases.rollback(home, reason="wrong EDSS", by="ann") == FIRST
    assert releases.current_version(home) == FIRST
    assert releases.is_due(home) == state
    last = releases.decisions(home)[-1]
    assert (last["action"], last["release"], last["user"], last["reason"]) == ("rollback", FIRST, "ann", "wrong EDSS")
    with pytest.raises(ReleaseError, match="no release before"):
        releases.rollback(home, reason="further")
    with pytest.raises(ReleaseError, match="newer than the current"):
        releases.rollback(home, "2026-11-25.1", reason="x")


def test_a_release_that_was_never_published_is_due_again(made: Lake) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    folder = home.releases / "2026-11-25.1"
    lake.write_json(folder / manifest.NAME, manifest.read(folder) | {"inputs_sha256": releases.inputs_sha256(home)})
    assert releases.is_due(home), "killed between the gate and the publication"
    releases.publish(home, "2026-11-25.1")
    releases.rollback(home, reason="wrong")
    assert not releases.is_due(home)


def test_manual_publishing_waits_for_a_decision(made: Lake) -> None:
    home = made.home
    home.network_file.write_text(home.network_file.read_text() + "releases: {publish: manual}\n")
    another(home, "2026-11-25.1")
    folder = home.releases / "2026-11-25.1"
    lake.write_json(folder / manifest.NAME, manifest.read(folder) | {"inputs_sha256": releases.inputs_sha256(home)})
    assert releases.waiting_version(home) == "2026-11-25.1"
    assert not releases.is_due(home)


def test_who_has_withdrawn_is_what_dbt_says(released: Lake) -> None:
    steward = releases.release_folder(released.home) / "steward.duckdb"
    by_dbt = sql(steward, "select subject_key from dim_subject where consent_status = 'withdrawn'")
    assert withdrawn_subjects(released.home) == {row[0] for row in by_dbt} != set()


def test_a_release_that_tells_of_who_has_withdrawn_since_is_not_published(made: Lake) -> None:
    another(made.home, "2026-11-25.1")
    releases.publish(made.home, "2026-11-25.1")
    withdraw(made)
    with pytest.raises(ReleaseError, match="withdrawn since"):
        releases.rollback(made.home, reason="back")
    assert releases.current_version(made.home) == "2026-11-25.1"


@pytest.mark.parametrize("everywhere", [False, True])
def test_reissue_strips_subjects_and_destroys_the_old_files(made: Lake, everywhere: bool) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    old = home.releases / FIRST
    before = manifest.read(old)["row_counts"]["registered.duckdb"]
    subject = withdraw(made)
    keys = keys_of(old / "steward.duckdb", subject)
    assert len(holders(old, keys)) == 3 and len(keys) == 3
    catalogue = sql(old / "open.duckdb", "select * from mart_cohort_catalogue order by all")
    done = reissue.reissue(home, withdrawn_subjects(home), reason="withdrawal", now=NOW, everywhere=everywhere)
    assert [one.old for one in done] == [FIRST, "2026-11-25.1"]
    assert releases.list_releases(home) == [one.new for one in done]
    assert releases.current_version(home) == done[0].new
    assert sorted(p.name for p in home.releases.glob(".*") if p.name != ".lock") == []
    for one in done:
        folder = home.releases / one.new
        content = manifest.read(folder)
        assert (content["supersedes"], content["reason"]) == (one.old, "withdrawal")
        after = content["row_counts"]["registered.duckdb"]
        assert after["dim_subject"] == before["dim_subject"] - 1
        assert after["fct_visit"] == before["fct_visit"] - 3
        assert holders(folder, keys) == (set() if everywhere else {"steward.duckdb"})
        assert sql(folder / "open.duckdb", "select * from mart_cohort_catalogue order by all") == catalogue
        assert sql(folder / "steward.duckdb", "select distinct release_version from fct_visit") == [(one.new,)]
        if not everywhere:
            status = f"select consent_status, is_shared from dim_subject where subject_key = '{subject}'"
            assert sql(folder / "steward.duckdb", status) == [("withdrawn", False)]
        releases.check(home, one.new)
    assert ("reissue", done[0].new) in decisions(home)
    assert reissue.reissue(home, withdrawn_subjects(home), reason="again", now=NOW) == []


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from warehouse import gate, lake, releases, reissue, consent
from warehouse.home import Home
home, module, name, after = Home(Path(sys.argv[1])), globals()[sys.argv[2]], sys.argv[3], int(sys.argv[4])
real, calls = getattr(module, name), 0
def dying(*args, **kwargs):
    global calls
    calls += 1
    if calls == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(module, name, dying)
reissue.reissue(home, consent.withdrawn_subjects(home), reason="withdrawal", now=datetime.fromisoformat(sys.argv[5]))
"""


@pytest.mark.parametrize(
    ("module", "name", "after"),
    [
        pytest.param("gate", "forbidden_keys", 1, marks=pytest.mark.slow),
        pytest.param("releases", "seal", 1, marks=pytest.mark.slow),
        ("reissue", "_finish", 2),
        pytest.param("lake", "point", 1, marks=pytest.mark.slow),
        ("releases", "destroy", 1),
        ("releases", "shutil.rmtree", 1),
        ("releases", "seal", 2),
    ],
)
def test_reissue_killed_half_way_ends_the_same_when_run_again(made: Lake, module: str, name: str, after: int) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    subject = withdraw(made)
    keys = keys_of(home.releases / FIRST / "steward.duckdb", subject)
    script = KILLED
    if name == "shutil.rmtree":  # with the old release renamed, before its files are gone
        script = script.replace("home, module, name", "import shutil\nhome, module, name", 1)
        script = script.replace("globals()[sys.argv[2]], sys.argv[3]", "shutil, 'rmtree'")
    command = [sys.executable, "-c", script, str(home.root), module, name, str(after), NOW.isoformat()]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert releases.current_version(home) is not None
    assert releases.release_folder(home).is_dir(), "readers find a release all the time"
    reissue.reissue(home, withdrawn_subjects(home), reason="withdrawal", now=NOW)
    left = releases.by_build(home)
    assert len(left) == 2 and FIRST not in left and "2026-11-25.1" not in left
    assert releases.current_version(home) == left[0]
    assert sorted(p.name for p in home.releases.iterdir()) == sorted([".lock", "current", *left])
    for version in left:
        assert holders(home.releases / version, keys) == {"steward.duckdb"}
        assert manifest.read(home.releases / version)["supersedes"] in (FIRST, "2026-11-25.1")
        releases.check(home, version)


def test_prune_keeps_the_newest_and_never_removes_the_current(made: Lake) -> None:
    home = made.home
    for day in (25, 26, 27):
        another(home, f"2026-11-{day}.1", days=day)
    with pytest.raises(ReleaseError, match=r"releases\.keep"):
        retention.prune(home)
    assert retention.prune(home, keep=1) == [], "all the others are newer than the current one"
    releases.publish(home, "2026-11-26.1")
    assert retention.prune(home, keep=2, reason="disk") == [FIRST, "2026-11-25.1"]
    assert releases.list_releases(home) == ["2026-11-26.1", "2026-11-27.1"]
    assert decisions(home)[-2:] == [("prune", FIRST), ("prune", "2026-11-25.1")]


def test_diff_counts_rows_and_names_what_changed(made: Lake) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    folder = home.releases / "2026-11-25.1"
    steward = folder / "steward.duckdb"
    steward.chmod(0o600)
    subject = made.by_state["AA/shared"]
    with duckdb.connect(str(steward)) as db:
        db.execute(f"update fct_visit set edss = 9.5 where subject_key = '{subject}' and visit_number = 1")
        db.execute(f"delete from fct_relapse where subject_key = '{subject}'")
        db.execute("insert into dim_measure values ('new_one', '1', 'mm', 'lower')")
        db.execute("update fct_visit set release_version = '2026-11-25.1'")
        db.execute("alter table dim_site add column country varchar")
    content = manifest.read(folder)
    content["sites"]["BB"]["deliveries"] = ["dlv_new"]
    lake.write_json(folder / manifest.NAME, content | {"code_version": "9.9"})
    found = release_diff.diff(home, FIRST, "2026-11-25.1")
    counts = {t.table: (t.added, t.removed, t.changed) for t in found.tables if t.added + t.removed + t.changed}
    assert counts == {"fct_visit": (0, 0, 1), "fct_relapse": (0, 1, 0), "dim_measure": (1, 0, 0)}
    assert found.columns_added == ["steward.duckdb: dim_site.country VARCHAR"]
    assert found.sites == {"BB": {"added": ["dlv_new"], "removed": made.deliveries["BB"]}}
    text = json.dumps(found.as_json()) + " ".join(found.words())
    assert "9.9" in text and "9.5" not in text
    assert not any(k in text for k in made.shared | made.hidden)
    assert release_diff.diff(home, FIRST, FIRST).words() == ["Nothing differs but the version."]


CFF_REQUIRED = {"authors", "cff-version", "message", "title"}
DATACITE_REQUIRED = {"creators", "titles", "publisher", "publicationYear", "types", "schemaVersion"}


def test_a_release_says_how_to_cite_it(released: Lake) -> None:
    folder = releases.release_folder(released.home)
    cff = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    datacite = json.loads((folder / "datacite.json").read_text(encoding="utf-8"))
    assert set(cff) >= CFF_REQUIRED and set(datacite) >= DATACITE_REQUIRED
    assert cff["version"] == datacite["version"] == FIRST
    assert str(cff["date-released"]) == "2026-11-24"
    assert not {"doi", "identifiers"} & (set(cff) | set(datacite)), "no identifier is made up"
    assert citation.sentence(folder) == (
        "MS network (2026). MS network: data warehouse release (release 2026-11-24.1) [Data set]. MS network."
    )
    facts = manifest.read(folder)["files"]["CITATION.cff"]
    assert facts["sha256"] == lake.sha256_file(folder / "CITATION.cff")


def test_a_row_of_the_imaging_mart_is_traced_to_files_methods_and_code(made: Lake) -> None:
    home = made.home
    delivery = made.deliveries["AA"][0]
    files = [
        {"delivery_key": delivery, "file_number": number, "sha256": f"{number:064x}", "display_name": "tables/*.csv"}
        for number in (1, 2)
    ]
    put(home, "raw_lake__file", files, "AA", delivery)
    steward = releases.release_folder(home) / "steward.duckdb"
    series, session = sql(
        steward,
        "select series_key, session_key from mart_imaging_qa where site_code = 'AA' and edss is not null limit 1",
    )[0]
    found = lineage.lineage(home, "mart_imaging_qa", str(series))
    assert found["release"]["version"] == FIRST and found["release"]["code_version"]
    assert "raw_imaging__series" in found["models"]["sources"]
    (row,) = found["rows"]
    assert row["delivery"]["delivery_key"] == delivery and row["delivery"]["sequence_number"] == 1
    assert row["series"]["files_count"] == 170 and row["series"]["image_sha256"]
    assert row["measures"] == [{"method_version": "1", "mask_sha256": None, "measures": ["cjv", "cnr", "snr"]}]
    assert row["verdict"]["verdict"] in ("pass", "fail")
    edss = row["edss_from"][0]
    lake_visits = lake.read_table(home, "raw_registry__visit", "AA").filter(pl.col("row_key") == edss["row_key"])
    assert (
        lake_visits["edss"][0] == sql(steward, f"select edss from mart_imaging_qa where series_key = '{series}'")[0][0]
    )
    assert edss["source_row"]["source_row"] == lake_visits["source_row"][0]
    assert edss["source_row"]["file"]["sha256"] == f"{1:064x}"
    by_session = lineage.lineage(home, "fct_mri_session", str(session))
    assert by_session["rows"][0]["series"] == [series]


def test_a_registry_fact_is_traced_to_site_file_and_row(made: Lake) -> None:
    steward = releases.release_folder(made.home) / "steward.duckdb"
    row_key, source_row = sql(steward, "select row_key, source_row from fct_visit where site_code = 'BB' limit 1")[0]
    found = lineage.lineage(made.home, "fct_visit", str(row_key))
    assert (found["key_column"], found["rows_count"]) == ("row_key", 1)
    source = found["rows"][0]["source_row"]
    assert (source["registry_table"], source["source_row"], source["row_key"]) == ("visit", source_row, row_key)
    assert found["rows"][0]["delivery"]["site_code"] == "BB"
    subject = made.by_state["BB/shared"]
    assert lineage.lineage(made.home, "fct_visit", subject)["rows_count"] == 3


def test_lineage_of_what_is_not_there_says_what_is(released: Lake) -> None:
    with pytest.raises(RanvierError, match="did you mean mart_imaging_qa"):
        lineage.lineage(released.home, "mart_imaging", "x")
    with pytest.raises(RanvierError, match="asked for by series_key"):
        lineage.lineage(released.home, "mart_imaging_qa", "ser_nope")


def test_commands_print_what_they_did(made: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    home = made.home
    another(home, "2026-11-25.1")
    environment = os.environ | {"RANVIER_HOME": str(home.root)}

    def ranvier(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from orchestration.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    listed = json.loads(ranvier("release", "list", "--json").stdout)
    assert [(one["version"], one["is_current"]) for one in listed] == [(FIRST, True), ("2026-11-25.1", False)]
    assert "Cite: MS network (2026)" in ranvier("release", "show").stdout
    refused = ranvier("release", "rollback", "--reason", "x")
    assert refused.returncode == 2 and "no release before" in refused.stderr
    steward = releases.release_folder(home) / "steward.duckdb"
    series = str(sql(steward, "select series_key from mart_imaging_qa limit 1")[0][0])
    traced = ranvier("lineage", "mart_imaging_qa", series)
    assert traced.returncode == 0 and "delivery_key" in traced.stdout
