"""Which statements are answered: a single SELECT made of known, harmless parts of DuckDB's own parse tree.

Here: the lists of what is allowed, and the walk over the tree. Not here: running it (`warehouse.gateway_process`).
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from warehouse.errors import QueryRefused

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


def check(tree: dict[str, Any], tables: set[str], catalogue: set[str]) -> set[str]:
    """Refuse a parse tree (of `json_serialize_sql`) that holds anything but what is known to be harmless.

    Parameters
    ----------
    tables
        The tier's tables.
    catalogue
        Names that mean something to DuckDB itself; a CTE may not borrow one.

    Returns
    -------
    Names of the tables that are read.

    Raises
    ------
    QueryRefused
        The text names what is not allowed.
    """
    if tree.get("error"):
        raise QueryRefused(_not_a_select(str(tree.get("error_message", ""))))
    if len(tree["statements"]) != 1:
        raise QueryRefused("Only one statement at a time is answered")
    checker = _Checker(tables, catalogue)
    checker.visit(tree["statements"][0])
    return checker.read


def _not_a_select(message: str) -> str:
    if "Only SELECT" in message:
        return "Only a SELECT is answered; a tier's file cannot be changed"
    return f"The statement cannot be read: {message.splitlines()[0] if message else 'unknown reason'}"


def _is_order_by_all(node: dict[str, Any]) -> bool:
    """`order by all`, which DuckDB writes down as `columns` without a pattern."""
    column = node.get("expression")
    if node.get("type") not in ("ORDER_DEFAULT", "ASCENDING", "DESCENDING") or not isinstance(column, dict):
        return False
    return column.get("class") == "STAR" and column.get("expr") is None and not column.get("replace_list")


class _Checker:
    def __init__(self, tables: set[str], catalogue: set[str]) -> None:
        self._tables = tables
        self._catalogue = catalogue
        self._borrowed: set[str] = set()
        self.read: set[str] = set()

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
        elif _is_order_by_all(node):
            return
        for value in node.values():
            self._walk(value)

    def _expression(self, node: dict[str, Any]) -> None:
        if node["class"] not in EXPRESSIONS:
            raise QueryRefused(f"{str(node['class']).lower()} expressions are not answered")
        if node["class"] == "STAR" and node.get("columns"):
            raise QueryRefused("columns(...) is not answered; name the columns")
        name = str(node.get("function_name") or "").lower()
        if name and (name not in FUNCTIONS or node.get("catalog") or node.get("schema") not in ("", "main", None)):
            raise QueryRefused(_no_function(name))

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
        if name.lower() in self._tables:
            self.read.add(name.lower())


def _no_function(name: str) -> str:
    near = difflib.get_close_matches(name, sorted(FUNCTIONS), n=1, cutoff=0.75)
    hint = f"; did you mean {near[0]}?" if near and near[0] != name else ""
    return f"The function {name[:40]} is not answered here{hint}"


def _no_table(name: str, tables: set[str]) -> str:
    near = difflib.get_close_matches(name.lower(), sorted(tables), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"This tier has no table {name[:60]!r}{hint} It has: {', '.join(sorted(tables))}".replace("' It", "'. It")
