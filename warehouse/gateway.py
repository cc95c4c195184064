"""The one door to a release: a single SELECT on one tier's file, in a locked-down process of its own.

Here: the check of a statement against DuckDB's own parse tree, the process that answers it, its limits, its audit
entry. Not here: what a tier holds (`warehouse.policy`); even a complete escape would see one tier's file only. As
`python -m warehouse.gateway` this module is that process.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import duckdb
import pyarrow as pa

from warehouse import audit, releases
from warehouse.errors import QueryRefused, RanvierError, ReleaseError
from warehouse.home import SITE_CODE, Home

Tier = Literal["open", "registered", "steward", "site", "controlled"]
SECONDS = 60.0
MEMORY = "1GB"
ADDRESS_SPACE = 6 << 30
"""Bytes. DuckDB's own limit does not cover list and string buffers: `len(range(2000000000))` took 21.7 GB."""
LONGEST = 100_000
"""Characters of a statement."""
BATCH_ROWS = 10_000

# Everything an analyst needs of aggregates, numbers, texts, dates and windows; nothing that reads files, settings or
# other catalogues, makes rows or texts without bound, or runs SQL from a text.
# fmt: off
FUNCTIONS = frozenset(
    {
        "count", "count_star", "sum", "avg", "min", "max", "median", "mode", "stddev", "stddev_pop",
        "stddev_samp", "variance", "var_pop", "var_samp", "quantile", "quantile_cont", "quantile_disc", "mad",
        "skewness", "kurtosis", "corr", "covar_pop", "covar_samp", "regr_slope", "regr_intercept", "regr_r2",
        "regr_count", "any_value", "first", "last", "arg_min", "arg_max", "min_by", "max_by", "bool_and",
        "bool_or", "approx_count_distinct", "approx_quantile", "string_agg", "listagg", "group_concat", "list",
        "array_agg", "histogram", "count_if", "countif", "sum_no_overflow", "entropy", "grouping",
        "grouping_id", "product", "geomean", "geometric_mean", "fsum", "favg", "row_number", "rank",
        "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value",
        "nth_value", "+", "-", "*", "/", "//", "%", "**", "^", "||", "&", "|", "~~", "!~~", "~~*", "!~~*",
        "~~~", "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape", "abs", "ceil", "ceiling",
        "floor", "round", "trunc", "sign", "sqrt", "cbrt", "exp", "ln", "log", "log2", "log10", "power", "pow",
        "greatest", "least", "mod", "fmod", "divide", "add", "subtract", "multiply", "sin", "cos", "tan",
        "asin", "acos", "atan", "atan2", "degrees", "radians", "pi", "isnan", "isinf", "isfinite", "even",
        "lower", "upper", "lcase", "ucase", "trim", "ltrim", "rtrim", "length", "len", "strlen", "substring",
        "substr", "left", "right", "replace", "reverse", "concat", "concat_ws", "contains", "prefix", "suffix",
        "starts_with", "ends_with", "strpos", "instr", "position", "split_part", "string_split",
        "regexp_matches", "regexp_extract", "regexp_replace", "regexp_full_match", "levenshtein", "jaccard",
        "year", "month", "day", "quarter", "week", "dayofweek", "dayofyear", "isodow", "decade", "date_part",
        "datepart", "date_trunc", "datetrunc", "date_diff", "datediff", "date_sub", "datesub", "age",
        "make_date", "to_days", "to_months", "to_years", "strftime", "today", "current_date",
        "get_current_timestamp", "coalesce", "nullif", "ifnull", "if", "isnull", "notnull", "constant_or_null",
        "typeof", "error_on_null", "list_value", "unnest", "list_contains", "list_has", "array_length",
        "list_sum", "list_avg", "list_min", "list_max", "list_sort", "list_distinct", "struct_pack",
        "struct_extract", "row", "array_extract", "list_extract", "element_at", "equi_width_bins",
    }
)
# fmt: on
EXPRESSIONS = frozenset(
    {
        "COLUMN_REF",
        "CONSTANT",
        "COMPARISON",
        "CONJUNCTION",
        "FUNCTION",
        "OPERATOR",
        "CASE",
        "CAST",
        "BETWEEN",
        "STAR",
        "SUBQUERY",
        "WINDOW",
        "POSITIONAL_REFERENCE",
        "COLLATE",
        "DEFAULT",
    }
)
NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE"})
SOURCES = frozenset(
    {
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "EMPTY",
        "EXPRESSION_LIST",
        "COLUMN_DATA",
        "CTE",
        "SHOW_REF",
    }
)
NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")


class Answer:
    """Rows of a query, as they come.

    Read it once: `batches()` streams, `table()` and `rows` gather everything. Use it as a context manager, or read it
    to its end, so that its process goes away.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: Any, seconds: float) -> None:
        self._process = process
        self._reader = reader
        self._seconds = seconds
        self._table: pa.Table | None = None
        self.columns: list[str] = list(reader.schema.names)
        self.schema: pa.Schema = reader.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Arrow record batches.

        Raises
        ------
        QueryRefused
            The query ran out of time or memory, or failed on a value, part of the way.
        """
        try:
            yield from self._reader
        except (pa.ArrowInvalid, OSError):
            raise self._failure() from None
        finally:
            self.close()
        if self._process.returncode:
            raise self._failure()

    def _failure(self) -> QueryRefused:
        stderr = self._process.stderr
        text = stderr.read().decode(errors="replace").strip() if stderr and not stderr.closed else ""
        return QueryRefused(text or f"The query was stopped; it may take {self._seconds:g} s and {MEMORY} of memory")

    def table(self) -> pa.Table:
        """All rows as one Arrow table."""
        if self._table is None:
            self._table = pa.Table.from_batches(list(self.batches()), schema=self.schema)
        return self._table

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        table = self.table()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_columns else []

    def close(self) -> None:
        """End the process, whether or not all rows were read."""
        if self._process.stdout:
            self._process.stdout.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def tier_file(
    home: Home,
    tier: str,
    *,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
) -> Path:
    """File of a tier in a release, the current one by default.

    Raises
    ------
    QueryRefused
        The tier does not exist, or needs a site.
    ReleaseError
        There is no such release.
    """
    if tier == "controlled" or project is not None:
        raise QueryRefused("This release has no project files; ask the registered tier, or the data manager")
    if tier not in ("open", "registered", "steward", "site"):
        raise QueryRefused(f"There is no tier {tier[:20]!r}; there are open, registered, steward and site")
    if (tier == "site") != (site is not None):
        raise QueryRefused(
            "The tier site needs a site's code, and no other tier takes one; use: --tier site --site CODE"
        )
    folder = releases.release_folder(home, release)
    if site is None:
        return folder / f"{tier}.duckdb"
    path = folder / "site" / f"{site}.duckdb"
    if not SITE_CODE.match(site) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in (folder / "site").glob("*.duckdb"))) or "none"
        raise QueryRefused(f"This release has no file for that site; it has: {known}")
    return path


def query(
    home: Home,
    sql: str,
    *,
    tier: str,
    site: str | None = None,
    project: str | None = None,
    release: str | None = None,
    user: str,
    seconds: float = SECONDS,
) -> Answer:
    """Answer one SELECT on one tier.

    Parameters
    ----------
    sql
        One SELECT over the tables of that tier.
    user
        Who asks, for the audit log.
    seconds
        How long it may take.

    Raises
    ------
    QueryRefused
        The statement asks for something its tier does not allow, names a column or table that does not exist, or takes
        too long; the text says what to do. It is in the audit log like any other.
    ReleaseError
        There is no such release.
    """
    entry: dict[str, Any] = {
        "user": user,
        "tier": tier,
        "site": site,
        "project": project,
        "release": release,
    }
    known: frozenset[str] = frozenset()
    process = None
    try:
        path = tier_file(home, tier, site=site, project=project, release=release)
        # The version that is answered from, should `current` move on meanwhile.
        entry["release"] = path.parent.name if site is None else path.parent.parent.name
        process = _start(path, sql, seconds)
        head = _read_head(process, seconds)
        known = frozenset(head["names"])
        if head["refusal"]:
            raise QueryRefused(head["refusal"])
        answer = Answer(process, pa.ipc.open_stream(process.stdout), seconds)
    except (QueryRefused, ReleaseError) as error:
        _end(process)
        outcome = "refused" if isinstance(error, QueryRefused) else "no release"
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": outcome})
        raise
    except pa.ArrowInvalid:
        _end(process)
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": "refused"})
        raise QueryRefused(f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory") from None
    try:
        audit.append(home, entry | {"statement": _logged(sql, known), "outcome": "answered"})
    except RanvierError:
        _end(process)
        raise
    return answer


def _logged(sql: str, known: frozenset[str]) -> str:
    return audit.without_literals(sql[:LONGEST], known)[:8000]


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _start(path: Path, sql: str, seconds: float) -> subprocess.Popen[bytes]:
    if len(sql) > LONGEST:
        raise QueryRefused(f"The statement is longer than {LONGEST} characters")
    root = str(Path(__file__).parent.parent)
    # Nothing of our environment is handed on: it may hold the secret behind the pseudonyms.
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": root,
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "warehouse.gateway"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=path.parent,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"path": str(path.resolve()), "sql": sql, "seconds": seconds}).encode())
        process.stdin.close()
    except BrokenPipeError:  # it is dead already; reading its first line says so
        pass
    return process


def _read_head(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    assert process.stdout is not None
    # The process interrupts itself in time; this is for one that no longer listens.
    timer = threading.Timer(seconds + 15, process.kill)
    timer.daemon = True
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    try:
        head: dict[str, Any] = json.loads(line)
    except ValueError:
        process.kill()
        raise QueryRefused(
            f"The query was stopped; it may take {seconds:g} s and {MEMORY} of memory; ask for less at once"
        ) from None
    return head


# What follows runs in the process of its own.


def check(tree: dict[str, Any], tables: set[str], catalogue: set[str]) -> None:
    """Refuse a parse tree (of `json_serialize_sql`) that holds anything but what is known to be harmless.

    Parameters
    ----------
    tables
        The tier's tables.
    catalogue
        Names that mean something to DuckDB itself; a CTE may not borrow one.

    Raises
    ------
    QueryRefused
        The text names what is not allowed.
    """
    if tree.get("error"):
        raise QueryRefused(_not_a_select(str(tree.get("error_message", ""))))
    if len(tree["statements"]) != 1:
        raise QueryRefused("Only one statement at a time is answered")
    _Checker(tables, catalogue).visit(tree["statements"][0])


def _not_a_select(message: str) -> str:
    if "Only SELECT" in message:
        return "Only a SELECT is answered; a tier's file cannot be changed"
    return f"The statement cannot be read: {message.splitlines()[0] if message else 'unknown reason'}"


class _Checker:
    def __init__(self, tables: set[str], catalogue: set[str]) -> None:
        self._tables = tables
        self._catalogue = catalogue
        self._borrowed: set[str] = set()

    def visit(self, node: Any) -> None:
        """Walk the whole tree. CTE names are gathered first: a forward reference is DuckDB's to refuse."""
        self._gather(node)
        self._walk(node)

    def _gather(self, node: Any) -> None:
        if isinstance(node, dict):
            names = [entry["key"] for entry in (node.get("cte_map") or {}).get("map", [])]
            if node.get("type") == "CTE_NODE":
                names.append(node["cte_name"])
            for name in names:
                if not NAME.match(name.lower()) or name.lower() in self._catalogue:
                    raise QueryRefused(
                        f"A common table expression may not be called {name[:40]!r}; choose another name"
                    )
                self._borrowed.add(name.lower())
            for value in node.values():
                self._gather(value)
        elif isinstance(node, list):
            for value in node:
                self._gather(value)

    def _walk(self, node: Any) -> None:
        if isinstance(node, list):
            for value in node:
                self._walk(value)
        if not isinstance(node, dict):
            return
        kind = str(node.get("type"))
        if "class" in node:
            self._expression(node)
            if node["class"] == "CONSTANT":
                return
        elif "from_table" in node or kind.endswith("_NODE"):
            if kind not in NODES:
                raise QueryRefused("Recursive queries are not answered")
        elif "query_location" in node and "alias" in node:
            self._source(node)
        for value in node.values():
            self._walk(value)

    def _expression(self, node: dict[str, Any]) -> None:
        if node["class"] not in EXPRESSIONS:
            raise QueryRefused(f"{str(node['class']).lower()} expressions are not answered")
        if node["class"] == "STAR" and node.get("columns"):
            raise QueryRefused("columns(...) is not answered; name the columns")
        name = str(node.get("function_name") or "").lower()
        if name and (name not in FUNCTIONS or node.get("catalog") or node.get("schema") not in ("", "main", None)):
            raise QueryRefused(f"The function {name[:40]} is not answered here")

    def _source(self, node: dict[str, Any]) -> None:
        kind = node["type"]
        if kind == "TABLE_FUNCTION":
            name = str((node.get("function") or {}).get("function_name"))[:40]
            raise QueryRefused(f"The table function {name} is not answered; ask the tables of this tier")
        if kind not in SOURCES:
            raise QueryRefused(f"{str(kind).lower()} is not answered")
        if kind == "SHOW_REF":
            if node.get("query") is None and node.get("table_name") not in (
                '"tables"',
                "tables",
            ):
                raise QueryRefused("Of SHOW, only `show tables` and `describe TABLE` are answered")
            return
        if kind != "BASE_TABLE":
            return
        name = str(node["table_name"])
        if node.get("catalog_name") or node.get("schema_name") not in ("", "main"):
            raise QueryRefused("Name tables without catalogue and schema; other catalogues are not answered")
        if node.get("at_clause"):
            raise QueryRefused("AT is not answered; choose a release instead")
        if name.lower() not in self._tables | self._borrowed:
            raise QueryRefused(_no_table(name, self._tables))


def _no_table(name: str, tables: set[str]) -> str:
    near = difflib.get_close_matches(name.lower(), sorted(tables), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"This tier has no table {name[:60]!r}{hint} It has: {', '.join(sorted(tables))}".replace("' It", "'. It")


def _explained(error: duckdb.Error, columns: dict[str, set[str]]) -> str:
    """A DuckDB error in one sentence, with the nearest column where a name is wrong."""
    if isinstance(error, duckdb.InterruptException):
        return "The query took too long and was stopped; ask for less at once"
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"The query needs more than {MEMORY} of memory; ask for less at once"
    text = str(error).splitlines()[0]
    text = re.sub(r"^\w[\w ]* Error: ", "", text)
    missing = re.search(
        r'column "?([^"\s]+)"? (?:not found|that)|have a column named "?([^"\s]+?)"?(?:$|\s|!)',
        text,
    )
    if missing is None:
        return text[:300]
    name = (missing.group(1) or missing.group(2)).split(".")[-1]
    everywhere = sorted({column for held in columns.values() for column in held})
    near = difflib.get_close_matches(name.lower(), everywhere, n=1, cutoff=0.5)
    if not near:
        return f"No table of the query has a column {name!r}; see: describe TABLE"
    where = ", ".join(sorted(table for table, held in columns.items() if near[0] in held))
    return f"No table of the query has a column {name!r}; did you mean {near[0]} (in {where})?"


def _connect(path: str) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(
        path,
        read_only=True,
        config={
            "memory_limit": MEMORY,
            "threads": "2",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "python_enable_replacements": "false",
        },
    )
    for setting in (
        "set TimeZone = 'UTC'",
        "set temp_directory = ''",
        "set enable_external_access = false",
        "set disabled_filesystems = 'LocalFileSystem'",
        "set lock_configuration = true",  # last: nothing can be set after it
    ):
        db.execute(setting)
    return db


def _head(out: IO[bytes], names: set[str], refusal: str | None) -> None:
    out.write(json.dumps({"names": sorted(names), "refusal": refusal}).encode() + b"\n")
    out.flush()


def serve(request: dict[str, Any], out: IO[bytes]) -> int:
    """Answer one request: a JSON line that says yes or why not, then an Arrow stream. Returns the exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    db = _connect(request["path"])
    columns: dict[str, set[str]] = {}
    for table, column in db.execute(
        "select table_name, column_name from information_schema.columns where table_schema = 'main'"
        " and table_catalog = current_database()"
    ).fetchall():
        columns.setdefault(table, set()).add(column)
    own = {row[0] for row in db.execute("select table_name from duckdb_tables() where not internal").fetchall()}
    columns = {table: held for table, held in columns.items() if table in own}
    catalogue = {row[0].lower() for row in db.execute("select view_name from duckdb_views()").fetchall()}
    names = set(columns) | {column for held in columns.values() for column in held}
    timer = threading.Timer(request["seconds"], db.interrupt)
    timer.daemon = True
    timer.start()
    try:
        row = db.execute("select json_serialize_sql(?::varchar)", [request["sql"]]).fetchone()
        check(json.loads(row[0]) if row else {"error": True}, set(columns), catalogue)
        reader = db.execute(request["sql"]).to_arrow_reader(BATCH_ROWS)
        first = next(iter(reader), None)
    except QueryRefused as error:
        _head(out, names, str(error))
        return 1
    except (duckdb.Error, pa.ArrowException, MemoryError, RecursionError) as error:
        _head(out, names, _sentence(error, columns))
        return 1
    _head(out, names, None)
    try:
        with pa.ipc.new_stream(out, reader.schema) as stream:
            if first is not None:
                stream.write_batch(first)
            for batch in reader:
                stream.write_batch(batch)
    except BrokenPipeError:  # the asker has seen enough
        return 0
    except (duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
        sys.stderr.write(_sentence(error, columns))
        return 1
    finally:
        timer.cancel()
    return 0


def _sentence(error: BaseException, columns: dict[str, set[str]]) -> str:
    if isinstance(error, duckdb.Error):
        return _explained(error, columns)
    if isinstance(error, RecursionError):
        return "The statement is nested too deeply"
    if "nterrupt" in str(error):
        return "The query took too long and was stopped; ask for less at once"
    return f"The query was stopped; it may use {MEMORY} of memory; ask for less at once"


def main() -> int:
    """Entry of the process: the request on standard input, the answer on standard output."""
    code = serve(json.load(sys.stdin), sys.stdout.buffer)
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    # No interpreter shutdown: DuckDB's threads of a stopped query must not delay the answer's end.
    status = main()
    sys.stderr.flush()
    os._exit(status)
