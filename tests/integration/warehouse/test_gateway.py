"""Asking a tier: what is answered, what is refused, and what the audit log keeps of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from network import Lake

from warehouse import audit, gateway, releases
from warehouse.errors import QueryRefused, ReleaseError
from warehouse.workers import Pool

POOL = Pool()
"""Processes are kept between the questions here; the tests that look at the process itself start their own."""


@pytest.fixture(scope="module", autouse=True)
def closed_pool() -> Iterator[None]:
    yield
    POOL.close()


def ask(made: Lake, sql: str, tier: str = "registered", **more: object) -> list[tuple[object, ...]]:
    with gateway.query(made.home, sql, tier=tier, user="tester", pool=POOL, **more) as answer:  # type: ignore[arg-type]
        return answer.rows


ANSWERED = [
    "select sex, count(*) as n, avg(2) from dim_subject group by sex order by n desc",
    "with v as (select * from fct_visit where edss >= 2) select visit_year, median(edss) from v group by all",
    "select subject_key, row_number() over (partition by subject_key order by visit_number) from fct_visit",
    "select s.sex, q.snr_total_value from mart_imaging_qa q join dim_subject s using (subject_key) limit 5",
    "select case when edss > 3 then 'high' else 'low' end, count(distinct subject_key) from fct_visit group by 1",
    "select * from fct_visit where edss in (2, 2.5) and visit_type like 'cl%' and age_band is not null",
    "select edss from fct_visit where edss between 1 and 3 union all select edss from fct_visit",
    "select max(edss) filter (where visit_year = 2022), string_agg(distinct visit_type, ', ') from fct_visit",
    "select (select count(*) from fct_relapse), cast(avg(edss) as varchar) from fct_visit having count(*) > 1",
    "show tables",
    "describe fct_visit",
    "summarize fct_visit",
]


@pytest.mark.parametrize("sql", ANSWERED)
def test_everyday_questions_are_answered(released: Lake, sql: str) -> None:
    assert ask(released, sql)


ESCAPES = [
    "select * from '/etc/passwd'",
    "select * from '../steward.duckdb'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('manifest.json')",
    "select * from read_blob('steward.duckdb')",
    "select * from read_parquet('../../lake/*/*/*.parquet')",
    "select * from glob('/**')",
    "attach 'steward.duckdb' as s",
    "select * from steward.main.fct_visit",
    "select * from steward.fct_visit",
    "copy fct_visit to '/tmp/out.csv'",
    "export database '/tmp/out'",
    "create table x as select 1",
    "insert into fct_visit select * from fct_visit",
    "update fct_visit set edss = 0",
    "drop table fct_visit",
    "set enable_external_access = true",
    "reset lock_configuration",
    "pragma database_list",
    "call duckdb_settings()",
    "select * from duckdb_settings()",
    "select * from duckdb_databases",
    "select * from duckdb_secrets()",
    "select * from information_schema.tables",
    "select * from pg_catalog.pg_tables",
    "select * from sqlite_master",
    "select * from pragma_table_info('fct_visit')",
    "select current_setting('temp_directory')",
    "select getenv('HOME')",
    "install httpfs",
    "load 'x.duckdb_extension'",
    "select 1; select 2",
    "select 1; drop table fct_visit",
    "select * from query('select 1')",
    "select * from query_table('duckdb_settings')",
    "select len(range(2000000000))",
    "select repeat('x', 900000000)",
    "select * from generate_series(1, 1000000000000)",
    "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r",
    "with duckdb_databases as (select 1) select * from (select * from duckdb_databases)",
    "select * from (with duckdb_columns as (select 1) select 1) x, duckdb_columns",
    "select columns('.*') from fct_visit",
    "select list_transform([1], lambda x: x + 1)",
    "select nextval('s')",
    "select * from fct_visit at (version => 1)",
    "select * from sniff_csv('/etc/passwd')",
    "select write_log('x')",
    "select * from duckdb_logs()",
    "explain analyze select 1",
    "prepare q as select 1",
    "select * from dim_scanner",
    "select * from fct_finding",
    "describe '/etc/passwd'",
    "show all tables",
    "show databases",
    "select which_secret('x', 'y')",
    "select system.main.getvariable('x')",
    "",
    "selec 1",
    "select 'unfinished",
]


@pytest.mark.parametrize("sql", ESCAPES)
def test_escapes_are_refused_and_recorded(released: Lake, sql: str) -> None:
    before = len(audit.entries(released.home))
    with pytest.raises(QueryRefused) as refused:
        ask(released, sql)
    assert str(refused.value)
    # No path of ours in what the asker is told.
    assert str(released.home.root) not in str(refused.value)
    entries = audit.entries(released.home)
    assert len(entries) == before + 1
    assert entries[-1]["outcome"] == "refused"
    assert entries[-1]["user"] == "tester"


def test_check_alone_is_not_the_only_wall(released: Lake) -> None:
    """Even a statement that the check let through reads no other file and changes no setting."""
    path = str(gateway.tier_file(released.home, "registered").resolve())
    code = (
        "import sys; from warehouse.gateway_process import _connect; db = _connect(sys.argv[1])\n"
        "for sql in sys.argv[2:]:\n"
        "    try: db.execute(sql).fetchall(); print('OPEN', sql)\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    steward = path.replace("registered", "steward")
    attempts = [
        f"attach '{steward}' as s (read_only)",
        "select * from read_text('/etc/passwd')",
        "copy (select 1) to '/tmp/ranvier_escape.csv'",
        "set enable_external_access = true",
        "set memory_limit = '50GB'",
        "create table x as select 1",
        "install httpfs",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, path, *attempts],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OPEN" not in done.stdout
    assert len(done.stdout.split()) == len(attempts)


def test_address_space_is_limited(released: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DuckDB's memory limit does not cover, the operating system's does."""
    path = str(gateway.tier_file(released.home, "registered").resolve())
    code = (
        "import io, sys; from warehouse.confinement import confine; confine()\n"
        "from warehouse import gateway_process, select_only\n"
        "select_only.FUNCTIONS = select_only.FUNCTIONS | {'range'}\n"
        "out = io.BytesIO()\n"
        "is_well = gateway_process.Server(sys.argv[1], out).answer('select len(range(2000000000))', 30.0)\n"
        "print(int(not is_well), out.getvalue()[5:].decode())"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("1 ")
    assert "memory" in done.stdout


def test_time_limit(released: Lake) -> None:
    start = time.monotonic()
    with pytest.raises(QueryRefused, match="took too long"):
        ask(
            released,
            "select count(*) from " + ", ".join(f"fct_visit as v{i}" for i in range(8)),
            seconds=1.0,
        )
    assert time.monotonic() - start < 15


def test_time_limit_holds_while_rows_stream(released: Lake) -> None:
    sql = "select " + ", ".join(f"v{i}.subject_key as k{i}" for i in range(5))
    sql += " from " + ", ".join(f"fct_visit as v{i}" for i in range(5))
    with (
        gateway.query(released.home, sql, tier="registered", user="tester", seconds=2.0) as answer,
        pytest.raises(QueryRefused, match="took too long"),
    ):
        for _ in answer.batches():
            time.sleep(0.01)


def test_rows_stream_and_an_abandoned_answer_leaves_no_process(released: Lake) -> None:
    sql = "select a.subject_key from fct_visit as a, fct_visit as b, fct_visit as c, fct_visit as d"
    with gateway.query(released.home, sql, tier="registered", user="tester") as answer:
        batch = next(iter(answer.batches()))
        assert 0 < batch.num_rows <= 20_000
    assert not answer._worker.is_alive


def test_each_tier_answers_from_its_own_file(released: Lake) -> None:
    count = "select count(*) from dim_subject"
    assert ask(released, count, "steward") == [(26,)]
    assert ask(released, count, "registered") == [(20,)]
    assert ask(released, count, "site", site="AA") == [(10,)]
    assert ask(released, "select distinct site_code from fct_visit", "site", site="BB") == [("BB",)]
    with pytest.raises(QueryRefused, match="has no table 'dim_subject'"):
        ask(released, count, "open")
    for arguments in (
        {"tier": "site"},
        {"tier": "site", "site": "ZZ"},
        {"tier": "site", "site": "../steward"},
        {"tier": "open", "site": "AA"},
        {"tier": "root"},
        {"tier": "controlled"},
        {"tier": "registered", "project": "P1"},
    ):
        with pytest.raises(QueryRefused):
            ask(released, "select 1", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ReleaseError):
        ask(released, "select 1", release="1999-01-01.1")
    assert ask(released, "select 1", release="2026-11-24.1") == [(1,)]


def test_no_rows_keep_their_columns(released: Lake) -> None:
    with gateway.query(
        released.home,
        "select edss from fct_visit where edss > 9",
        tier="steward",
        user="t",
    ) as answer:
        assert answer.columns == ["edss"]
        assert answer.rows == []
        assert answer.table().num_rows == 0


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("select eds from fct_visit", "did you mean edss"),
        ("select v.visit_yaer from fct_visit as v", "did you mean visit_year"),
        ("select * from fct_vist", "did you mean fct_visit?"),
        ("select visit_date from fct_visit", "did you mean visit_"),
    ],
)
def test_wrong_names_get_the_nearest_right_one(released: Lake, sql: str, hint: str) -> None:
    with pytest.raises(QueryRefused, match=hint.replace("?", r"\?")):
        ask(released, sql)


def test_audit_keeps_no_values_and_shows_tampering(released: Lake) -> None:
    subject = released.by_state["AA/shared"]
    ask(
        released,
        f"select edss from fct_visit where subject_key = '{subject}' and edss > 3.5 -- Jane Doe",
        "steward",
    )
    with pytest.raises(QueryRefused):
        ask(released, 'select "Jane Doe" from fct_visit')
    text = "".join(path.read_text() for path in released.home.audit.iterdir())
    kept = [e["statement"] for e in audit.entries(released.home)[-2:]]
    assert kept == ["select edss from fct_visit where subject_key = ? and edss > ?", "select ? from fct_visit"]
    assert subject not in text and "Jane" not in text
    assert audit.verify(released.home).is_whole


def test_audit_says_how_each_question_ended(released: Lake) -> None:
    ask(released, "select edss from fct_visit limit 3", "steward")
    with gateway.query(
        released.home, "select a.edss from fct_visit a, fct_visit b, fct_visit c", tier="steward", user="t"
    ) as answer:
        next(iter(answer.batches()))
    with pytest.raises(QueryRefused):
        ask(released, "select cast(sex as integer) from dim_subject", "steward")
    with pytest.raises(ReleaseError):
        ask(released, "select 1", release="1999-01-01.1")
    last = audit.entries(released.home)[-4:]
    assert [e["outcome"] for e in last] == ["answered", "abandoned", "refused", "no release"]
    assert last[0]["rows"] == 3 and last[1]["rows"] > 0 and last[2]["rows"] == 0
    assert all(0 <= e["seconds"] < 60 for e in last)
    assert last[0]["release"] == "2026-11-24.1"


def test_readers_of_the_old_release_keep_working(released: Lake) -> None:
    assert releases.current_version(released.home) == "2026-11-24.1"
    answer = gateway.query(released.home, "select count(*) from fct_visit", tier="steward", user="t")
    releases.publish(released.home, "2026-11-24.1")
    assert answer.rows == [(78,)]
