"""`ranvier sql`, its shell, `ranvier dictionary` and `ranvier audit`, as somebody types them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from orchestration.answers import print_answer
from orchestration.cli import main, make_home
from orchestration.commands import out
from orchestration.shell import Catalogue, Shell, SqlCompleter
from warehouse import gateway
from warehouse.home import Home

VERSION = "2026-11-24.1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a release of one tier: three subjects, 250 visits, one wide table."""
    place = Home(tmp_path_factory.mktemp("home"))
    make_home(place, "Test network")
    (place.releases / VERSION).mkdir()
    (place.releases / VERSION / "manifest.json").write_text("{}")
    with duckdb.connect(str(place.releases / VERSION / "registered.duckdb")) as db:
        db.execute("create table dim_subject as select 'sbj_' || i as subject_key, i as n from range(3) t(i)")
        db.execute(
            "create table fct_visit as select 'sbj_' || i % 3 as subject_key, (i % 20) / 2 as edss, 2020 + i % 3 as"
            " visit_year from range(250) t(i)"
        )
        columns = ", ".join(f"'value {n} of a wide table' as column_with_a_long_name_{n}" for n in range(12))
        db.execute(f"create table mart_imaging_qa as select {columns}")
        db.execute(
            "create table dim_measure as select 'a text that is longer than the screen is wide, ' || repeat("
            "'and ', 30) as definition, '[red]not markup[/red]' || chr(27) || '[31m' as unit"
        )
    place.current_release.symlink_to(VERSION)
    return place


@pytest.fixture
def run(home: Home, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RANVIER_HOME", str(home.root))
    monkeypatch.setattr(out, "_width", 80)

    def call(*arguments: str, stdin: str = "") -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        said = capfdbinary.readouterr()
        return code, said.out, said.err.decode()

    return call  # type: ignore[return-value]


def test_a_table_folds_at_80_columns(run: Run) -> None:
    code, said, _ = run("sql", "--tier", "registered", "select * from dim_measure")
    lines = said.decode().splitlines()
    assert code == 0 and lines[-1] == "1 row"
    assert max(len(line) for line in lines) <= 80
    # All of it is there, markup and control characters are shown and not obeyed.
    assert said.decode().count("and ") + said.decode().count("and  ") >= 30
    assert "[red]" in said.decode() and "\x1b" not in said.decode()


def test_too_many_columns_become_lines(run: Run) -> None:
    _, said, _ = run("sql", "--tier", "registered", "select * from mart_imaging_qa")
    assert "row 1" in said.decode() and "column_with_a_long_name_11  value 11 of a wide table" in said.decode()


def test_a_long_answer_says_that_it_was_cut(run: Run) -> None:
    _, said, _ = run("sql", "--tier", "registered", "select edss from fct_visit")
    assert said.decode().splitlines()[-1] == "250 rows; the first 200 are shown, use --format csv for all"


def test_formats_hold_the_same_rows(run: Run) -> None:
    sql = "select subject_key, edss from fct_visit order by subject_key, edss"
    wanted = [{"subject_key": f"sbj_{i % 3}", "edss": (i % 20) / 2} for i in range(250)]
    wanted.sort(key=lambda row: (row["subject_key"], row["edss"]))
    said = {
        format: run("sql", "--tier", "registered", "--format", format, sql)[1]
        for format in ("csv", "json", "parquet", "arrow")
    }
    assert json.loads(said["json"]) == wanted
    assert pq.read_table(io.BytesIO(said["parquet"])).to_pylist() == wanted
    assert pa.ipc.open_stream(said["arrow"]).read_all().to_pylist() == wanted
    rows = said["csv"].decode().splitlines()
    assert rows[0] == '"subject_key","edss"' and len(rows) == 251 and rows[1] == '"sbj_0",0'
    assert run("sql", "--tier", "registered", "--format", "json", "select 1 where false")[1] == b"[]\n"


def test_explain_plans_and_does_not_run(run: Run, home: Home) -> None:
    # Run, this would take hours.
    sql = "select count(*) from fct_visit a, fct_visit b, fct_visit c, fct_visit d, fct_visit e where a.edss > 2"
    code, said, _ = run("sql", "--tier", "registered", "--explain", "--format", "json", sql)
    steps = json.loads(said)
    assert code == 0
    assert steps[0]["step"] == "aggregate all rows"
    assert {"read", "every row with every row"} <= {step["step"].strip() for step in steps}
    assert any(step["of"].startswith("fct_visit") for step in steps)
    assert str(home.root) not in said.decode() and ".duckdb" not in said.decode()
    code, _, error = run("sql", "--tier", "registered", "--explain", "select * from read_csv('/etc/passwd')")
    assert code == 1 and "read_csv" in error


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["select edsss from fct_visit"], 1, "did you mean edss (in fct_visit)?"),
        (["select edss from dim_subject"], 1, "it is in fct_visit"),
        (["select * from fct_vist"], 1, "did you mean fct_visit?"),
        (["select v.edss from fct_visit w"], 1, "no table or alias 'v'"),
        (["select mediann(edss) from fct_visit"], 1, "did you mean median?"),
        (["--project", "nobody", "select 1"], 1, "project"),
        (["--format", "xlsx", "select 1"], 2, "choose one of table, csv, json, parquet, arrow"),
        ([], 2, "Give one SELECT"),
        (["--shell", "select 1"], 2, "Give one SELECT"),
    ],
)
def test_errors_say_what_to_do(run: Run, arguments: list[str], code: int, sentence: str) -> None:
    found, said, error = run("sql", "--tier", "registered", *arguments)
    assert (found, said) == (code, b"")
    assert sentence in error and "Traceback" not in error


def test_a_question_from_standard_input(run: Run) -> None:
    assert run("sql", "--tier", "registered", "--format", "csv", "-", stdin="select 7 as n")[1] == b'"n"\n7\n'


def test_shell_answers_until_quit_and_keeps_no_history(home: Home) -> None:
    said: list[str] = []
    shown = Console(file=io.StringIO(), width=80)

    def ask(sql: str) -> gateway.Answer:
        return gateway.query(home, sql, tier="registered", user="shell")

    before = {path for path in home.root.rglob("*") if "audit" not in path.parts}
    with create_pipe_input() as keys:
        shell = Shell(
            ask,
            lambda answer, format: print_answer(answer, format, shown),
            said.append,
            prompt="registered",
            input=keys,
            output=DummyOutput(),
        )
        keys.send_text("tables\rdescribe fct_visit\rselect count(*) as visits\r")
        keys.send_text("from fct_visit;\rselect eds from fct_visit;\rformat xlsx\rhelp\rquit\r")
        shell.run()
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "dim_subject" in text and "visit_year" in text and "visits" in text and "250" in text
    assert "did you mean edss" in said[0] and "formats table, csv, json" in said[1] and "describe TABLE" in said[2]
    assert {path for path in home.root.rglob("*") if "audit" not in path.parts} == before


def test_completion_offers_what_the_tier_has() -> None:
    completer = SqlCompleter(Catalogue({"dim_subject": ["subject_key", "sex"], "fct_visit": ["subject_key", "edss"]}))

    def offered(text: str, after: str = "") -> set[str]:
        document = Document(text + after, len(text))
        return {completion.text for completion in completer.get_completions(document, None)}  # type: ignore[arg-type]

    assert offered("select * from f") == {"fct_visit"}
    assert offered("select * from ") == {"dim_subject", "fct_visit"}
    assert "edss" in offered("select ed", " from fct_visit")
    assert "edss" not in offered("select e", " from dim_subject")
    assert offered("select v.", " from fct_visit as v") == {"subject_key", "edss"}
    assert "median" in offered("select med")
    assert "getenv" not in offered("select get")
    assert offered("select 1 where sex = 'f") == set()
    assert "tables" in offered("ta")


def test_dictionary_says_what_each_tier_makes_of_a_column(run: Run) -> None:
    code, said, _ = run("dictionary", "visit_year", "--json")
    assert code == 0
    (meaning,) = json.loads(said)
    assert meaning["name"] == "visit_date" and meaning["definition"]
    assert {"tier": "registered", "table": "fct_visit", "column": "visit_year", "how": "year only"} in meaning["places"]
    assert {"steward", "site"} <= {place["tier"] for place in meaning["places"]}
    assert "open" not in {place["tier"] for place in meaning["places"]}
    # A column that only the marts have.
    (count, *_) = json.loads(run("dictionary", "subject_count", "--json")[1])
    assert {p["how"] for p in count["places"] if p["tier"] == "open"} == {"small counts empty, others rounded"}
    _, said, _ = run("dictionary", "edss")
    assert "from 0 to 10 in steps of 0.5, never 0.5" in said.decode() and "score" in said.decode()
    code, _, error = run("dictionary", "eds")
    assert code == 2 and "did you mean edss" in error
    assert b"edss" in run("dictionary")[1]


def test_audit_is_searched_and_verified(run: Run, home: Home) -> None:
    run("sql", "--tier", "registered", "select edss from fct_visit where subject_key = 'sbj_1'")
    run("sql", "--tier", "registered", "select nothing from dim_subject")
    code, said, _ = run("audit", "search", "--table", "fct_visit", "--tier", "registered", "--json")
    found = json.loads(said)[-1]
    assert code == 0 and found["outcome"] == "answered" and found["rows"] == 83
    assert found["statement"] == "select edss from fct_visit where subject_key = ?"
    refused = json.loads(run("audit", "search", "--outcome", "refused", "--last", "1", "--json")[1])
    assert [entry["statement"] for entry in refused] == ["select ? from dim_subject"]
    assert run("audit", "search", "--user", "nobody")[1] == b"0 questions\n"
    assert run("audit", "search", "--until", "2020-01")[1] == b"0 questions\n"
    assert json.loads(run("audit", "search", "--since", "2020-01-01T00:00", "--json")[1])
    assert run("audit", "search", "--since", "yesterday")[0] == 2
    assert b"select edss from fct_visit" in run("audit", "search")[1]
    code, said, _ = run("audit", "verify")
    assert code == 0 and b"The log is whole" in said
    anchor = json.loads(run("audit", "verify", "--json")[1])["anchor"]
    assert run("audit", "verify", "--anchor", anchor)[0] == 0
    assert run("audit", "verify", "--anchor", "nonsense")[0] == 2
    log = next(home.audit.glob("queries-*.jsonl"))
    whole = log.read_bytes()
    try:
        log.write_bytes(whole.replace(b"answered", b"refused!", 1))
        code, said, _ = run("audit", "verify")
        assert code == 1 and b"was changed or cut" in said
        log.write_bytes(whole[: whole[:-1].rindex(b"\n")])  # the newest question's end, and a byte of its beginning
        assert run("audit", "verify")[0] == 1
    finally:
        log.write_bytes(whole)
    assert run("audit", "verify", "--home", str(Path("/nonexistent")))[0] == 2
