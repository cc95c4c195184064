"""Random statements: each is answered or refused in a sentence, and what is answered reads allowed tables only.

The statements are built as sqlglot trees over a tier's real tables and hostile names, and written as text. The judge is
sqlglot too: its parse of tables and functions is independent of DuckDB's, which decides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp
from sqlglot.errors import SqlglotError

from warehouse import gateway
from warehouse.errors import QueryRefused
from warehouse.gateway_process import MEMORY, _connect
from warehouse.home import Home
from warehouse.select_only import FUNCTIONS, check
from warehouse.statement import Names, run, sentence

MARKER = "val_of_steward_only"
SECRET_TABLE = "fct_finding"
TABLES = {"dim_subject": ["subject_key", "sex"], "fct_visit": ["subject_key", "edss", "visit_year"]}
HOSTILE_TABLES = (
    *(SECRET_TABLE, "steward.fct_visit", "steward.main.fct_finding", "registered.main.fct_visit", "temp.x", "system.x"),
    *("duckdb_settings", "duckdb_databases", "sqlite_master", "information_schema.tables", "pg_catalog.pg_class"),
    *("'/etc/passwd'", '"steward.duckdb"', "FCT_VISIT", '"fct_visit"', "main.fct_visit", "r", "df", "pg_settings"),
)
HOSTILE_FUNCTIONS = (
    *("getenv", "current_setting", "read_text", "read_csv", "glob", "duckdb_settings", "query", "query_table", "range"),
    *("generate_series", "repeat", "getvariable", "nextval", "pragma_version", "which_secret", "version", "random"),
    *("list_transform", "json_execute_serialized_sql", "write_log", "error", "unnest", "main.abs", "system.main.abs"),
)
PLAIN_FUNCTIONS = ("abs", "count", "median", "lower", "coalesce", "length", "round", "max", "string_agg", "least")
VALUES = ("1", "0.5", "null", "true", "'f'", "''", "'/etc/passwd'", "date '2024-01-01'", "interval 1 day", "[1, 2]")


def _plant(folder: Path) -> Home:
    home = Home(folder)
    release = home.releases / "2026-11-24.1"
    release.mkdir(parents=True)
    (release / "manifest.json").write_text("{}")
    home.current_release.symlink_to(release.name)
    with duckdb.connect(str(release / "registered.duckdb")) as db:
        db.execute("create table dim_subject as select 'sbj_' || i as subject_key, 'f' as sex from range(5) t(i)")
        db.execute(
            "create table fct_visit as select 'sbj_' || i % 5 as subject_key, i / 2 as edss, 2020 as visit_year"
            " from range(12) t(i)"
        )
    with duckdb.connect(str(release / "steward.duckdb")) as db:
        db.execute(f"create table {SECRET_TABLE} as select '{MARKER}' as sex")
        db.execute(f"create table fct_visit as select '{MARKER}' as subject_key, 1.0 as edss, 2020 as visit_year")
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return _plant(tmp_path_factory.mktemp("fuzzed_home"))


@pytest.fixture(scope="module")
def tier(home: Home) -> tuple[duckdb.DuckDBPyConnection, Names]:
    db = _connect(str(gateway.tier_file(home, "registered").resolve()))
    return db, Names.read(db)


# --- statements -----------------------------------------------------------------------------------------------------

COLUMNS = st.sampled_from(["subject_key", "sex", "edss", "visit_year", "v.edss", "site_code", "v", "rowid", '"EDSS"'])


OPERATORS = ("+", "-", "||", "=", "<", "and", "or", "like", "is not distinct from", "->>", "::", "@>")
TYPES = ("int", "varchar", "date", "struct(a int)", "x")
CALLED = PLAIN_FUNCTIONS * 3 + HOSTILE_FUNCTIONS + tuple(sorted(name for name in FUNCTIONS if name.isidentifier()))


def _expression(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def call(name: str, arguments: list[str]) -> str:
        return f"{name}({', '.join(arguments)})"

    return st.one_of(
        st.builds(call, st.sampled_from(CALLED), st.lists(inner, max_size=3)),
        st.builds(lambda a, b, o: f"({a} {o} {b})", inner, inner, st.sampled_from(OPERATORS)),
        st.builds(lambda a, b: f"case when {a} then {b} end", inner, inner),
        st.builds(lambda a, t: f"cast({a} as {t})", inner, st.sampled_from(TYPES)),
        st.builds(lambda a, b: f"{a} in ({b})", inner, inner),
        st.builds(lambda a, b: f"sum({a}) over (partition by {b})", inner, inner),
        st.builds(lambda a: f"count(*) filter (where {a})", inner),
        st.builds(lambda a: f"list_transform([1], x -> {a})", inner),
        st.builds(lambda a: f"{{'k': {a}}}", inner),
    )


EXPRESSIONS = st.recursive(st.one_of(COLUMNS, st.sampled_from(VALUES)), _expression, max_leaves=6)
RELATIONS = st.one_of(
    st.sampled_from(["fct_visit as v", "dim_subject as d", "fct_visit as v"]),
    st.sampled_from(HOSTILE_TABLES),
    st.builds(lambda name, value: f"{name}({value})", st.sampled_from(HOSTILE_FUNCTIONS), st.sampled_from(VALUES)),
)


@st.composite
def selects(draw: st.DrawFn, depth: int = 2) -> str:
    """One statement as text."""
    if depth and draw(st.integers(0, 5)) == 0:
        inner = draw(selects(depth=depth - 1))
        source = draw(st.sampled_from([f"({inner}) as s", f"({inner}) as s, fct_visit as v"]))
    else:
        source = draw(RELATIONS)
        if draw(st.booleans()):
            join = draw(st.sampled_from([", ", " cross join ", " natural join ", " positional join ", " semi join "]))
            source += join + draw(RELATIONS)
    columns = ", ".join(draw(st.lists(EXPRESSIONS, min_size=1, max_size=3)) if draw(st.booleans()) else ["*"])
    text = f"select {columns} from {source}"
    for clause, chance in ((" where ", 3), (" group by ", 6), (" having ", 8), (" qualify ", 9), (" order by ", 5)):
        if draw(st.integers(0, chance)) == 0:
            text += clause + draw(EXPRESSIONS)
    if draw(st.integers(0, 5)) == 0:
        text += " limit " + draw(st.sampled_from(["3", "getvariable('x')", "(select 1)", "10%"]))
    if depth and draw(st.integers(0, 6)) == 0:
        text += draw(st.sampled_from([" union all ", " except ", " union by name "])) + draw(selects(depth=depth - 1))
    if depth and draw(st.integers(0, 6)) == 0:
        name = draw(st.sampled_from(["r", "fct_visit", SECRET_TABLE, "duckdb_settings", "v"]))
        recursive = draw(st.sampled_from(["", "", "recursive "]))
        text = f"with {recursive}{name} as ({draw(selects(depth=depth - 1))}) {text}"
    before = draw(st.sampled_from([""] * 8 + BEFORE))
    after = {"from (": ")", "copy (": ") to '/tmp/x'"}.get(before, draw(st.sampled_from([""] * 9 + AFTER)))
    return before + text + after


BEFORE = ["explain ", "describe ", "summarize ", "from (", "/* x */ ", "copy (", "; ", "\ufeff"]
AFTER = ["; select 1", " -- x", "\0"]
MEASURES = ("edss", "visit_year", "abs(edss)", "round(v.edss, 1)", "edss + visit_year", "coalesce(edss, 0)")
TEXTS = (
    "subject_key",
    "lower(subject_key)",
    "v.subject_key || '!'",
    "length(subject_key)",
    "left(subject_key, 3)",
)
AGGREGATES = ("count(*)", "median(edss)", "max(visit_year)", "string_agg(subject_key, ',')", "count(distinct edss)")
CONDITIONS = ("edss > 2", "edss between 1 and 3", "subject_key like 's%'", "edss in (1, 2.5)", "edss is not null")


@st.composite
def tame(draw: st.DrawFn) -> str:
    """A question as an analyst asks it."""
    source = draw(st.sampled_from(["fct_visit as v", "fct_visit v join dim_subject d using (subject_key)"]))
    source = draw(st.sampled_from([source, "(select * from fct_visit where edss > 1) as v"]))
    where = draw(st.sampled_from(["", *(f" where {condition}" for condition in CONDITIONS)]))
    if draw(st.booleans()):
        key = draw(st.sampled_from(["visit_year", "subject_key", "edss"]))
        text = (
            f"select {key}, {draw(st.sampled_from(AGGREGATES))} as n from {source}{where} group by {key} order by {key}"
        )
    else:
        column = draw(st.sampled_from(MEASURES + TEXTS))
        text = f"select {column} as c, row_number() over (order by edss) from {source}{where} limit 5"
    return draw(st.sampled_from([text, text, f"with r as ({text}) select * from r", f"explain {text}"]))


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """A question of an analyst with one of its words replaced, or one put in."""
    words = draw(tame()).split(" ")
    at = draw(st.integers(0, len(words) - 1))
    call = st.builds(lambda name, value: f"{name}({value})", st.sampled_from(CALLED), st.sampled_from(VALUES))
    word = draw(st.one_of(st.sampled_from(HOSTILE_TABLES), call, EXPRESSIONS, st.text(max_size=3)))
    return " ".join([*words[:at], word, *words[at + draw(st.integers(0, 1)) :]])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A statement as it was drawn, or as sqlglot writes its tree in DuckDB's dialect."""
    text = draw(st.one_of(tame(), spoiled(), spoiled(), selects()))
    if draw(st.booleans()):
        try:
            return sqlglot.transpile(text, read="duckdb", write="duckdb", pretty=draw(st.booleans()))[0]
        except (SqlglotError, IndexError, RecursionError, ValueError, TypeError, AttributeError):
            return text
    return text


# --- the judge ------------------------------------------------------------------------------------------------------


def judged(sql: str) -> None:
    """Assert, by sqlglot's own parse, that a statement that was let through reads allowed tables only."""
    text = sql.lstrip("\ufeff")
    for word in ("explain", "summarize"):  # sqlglot keeps their operand as bare text
        stripped = text.lstrip()
        if stripped.lower().startswith(word):
            text = stripped[len(word) :]
    try:
        trees = [tree for tree in sqlglot.parse(text, read="duckdb") if tree is not None]
    except SqlglotError:
        return  # DuckDB understood it and sqlglot does not: nothing to compare
    assert len(trees) == 1, sql
    tree = trees[0]
    assert not list(tree.find_all(exp.Command, exp.Insert, exp.Create, exp.Drop, exp.Copy, exp.Attach, exp.Set)), sql
    borrowed = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            continue  # judged as a function below
        assert table.name.lower() in set(TABLES) | borrowed | {"tables"}, sql
        assert not table.catalog and table.db.lower() in ("", "main"), sql
    for function in tree.find_all(exp.Anonymous):
        assert function.name.lower() in FUNCTIONS, sql
    hostile = (exp.ReadCSV, exp.ReadParquet, exp.GenerateSeries, exp.Lambda, exp.Columns)
    assert not list(tree.find_all(*hostile)), sql


def _asked(tier: tuple[duckdb.DuckDBPyConnection, Names], home: Home, sql: str) -> bool:
    db, names = tier
    try:
        reader = run(db, sql, names)
        said, is_answered = str(reader.schema) + str(reader.read_all().slice(0, 100).to_pydict()), True
    except (QueryRefused, duckdb.Error, pa.ArrowException, MemoryError, RecursionError, OSError) as error:
        said, is_answered = sentence(error, names, sql, MEMORY), False
        assert said.strip() and "\n" not in said.strip() and "Traceback" not in said, said
    assert MARKER not in said
    assert str(home.root) not in said and home.root.name not in said, said
    return is_answered


def _fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


def _one(home: Home, tier: tuple[duckdb.DuckDBPyConnection, Names], sql: str) -> None:
    if _asked(tier, home, sql):
        judged(sql)


@_fuzz(200)
@given(sql=statements())
def test_random_statements(home: Home, tier: tuple[duckdb.DuckDBPyConnection, Names], sql: str) -> None:
    _one(home, tier, sql)


@pytest.mark.slow
@_fuzz(3000)
@given(sql=statements())
def test_many_random_statements(home: Home, tier: tuple[duckdb.DuckDBPyConnection, Names], sql: str) -> None:
    _one(home, tier, sql)


@pytest.mark.slow
@_fuzz(40)
@given(sql=statements())
def test_random_statements_through_the_door(home: Home, sql: str) -> None:
    try:
        with gateway.query(home, sql, tier="registered", user="fuzz", seconds=5) as answer:
            said = str(answer.schema) + str(answer.rows[:100])
        judged(sql)
    except QueryRefused as refused:
        said = str(refused)
        assert "\n" not in said.strip() and "Traceback" not in said
    assert MARKER not in said and str(home.root) not in said


def test_the_statements_are_not_all_refused(home: Home, tier: tuple[duckdb.DuckDBPyConnection, Names]) -> None:
    """A fuzzer that is always refused would prove nothing, and neither would a judge that agrees to everything."""
    outcomes: set[bool] = set()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(sql=statements())
    def gather(sql: str) -> None:
        outcomes.add(_asked(tier, home, sql))

    gather()
    assert outcomes == {True, False}
    for sql in (f"select * from {SECRET_TABLE}", "select 1; select 2", "select getenv('HOME')", "from read_csv('x')"):
        with pytest.raises(AssertionError):
            judged(sql)


KEYS = ("type", "class", "function_name", "table_name", "from_table", "query_location", "alias", "cte_map", "map", "x")
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8))
PARTS = (
    {"type": "TABLE_FUNCTION", "alias": "", "query_location": 1, "function": {"function_name": "glob"}},
    {"type": "BASE_TABLE", "alias": "", "query_location": 1, "table_name": SECRET_TABLE, "schema_name": ""},
    {"class": "FUNCTION", "type": "FUNCTION", "function_name": "getenv"},
    {"class": "LAMBDA", "type": "LAMBDA"},
)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)


@_fuzz(300)
@given(tree=st.recursive(LEAVES, _around, max_leaves=20), part=st.sampled_from(PARTS))
def test_a_tree_of_unknown_shape_never_hides_a_hostile_part(tree: Any, part: dict[str, Any]) -> None:
    """Whatever a later DuckDB puts around it, a table function or an unknown table inside is found."""
    statement = {"node": {"around": tree, "hostile": [part]}}
    with pytest.raises((QueryRefused, TypeError, KeyError, AttributeError)):
        check({"error": False, "statements": [statement]}, set(TABLES), set())
