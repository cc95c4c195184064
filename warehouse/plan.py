"""A query plan in plain words: what is read, joined and counted, in which order.

Here: DuckDB's plan (`explain (format json)`) as a table of steps. Not here: asking for it (`warehouse.statement`).
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

STEPS = {
    "SEQ_SCAN": "read",
    "TABLE_SCAN": "read",
    "COLUMN_DATA_SCAN": "read again",
    "CTE_SCAN": "read again",
    "DUMMY_SCAN": "one row",
    "EMPTY_RESULT": "no row can match",
    "FILTER": "keep rows",
    "HASH_GROUP_BY": "group",
    "PERFECT_HASH_GROUP_BY": "group",
    "PARTITIONED_AGGREGATE": "group",
    "UNGROUPED_AGGREGATE": "aggregate all rows",
    "SIMPLE_AGGREGATE": "aggregate all rows",
    "STREAMING_WINDOW": "window",
    "HASH_JOIN": "join",
    "PIECEWISE_MERGE_JOIN": "join on an inequality",
    "IE_JOIN": "join on inequalities",
    "NESTED_LOOP_JOIN": "join row by row",
    "BLOCKWISE_NL_JOIN": "join row by row",
    "CROSS_PRODUCT": "every row with every row",
    "POSITIONAL_JOIN": "join by position",
    "ASOF_JOIN": "join to the nearest before",
    "ORDER_BY": "sort",
    "TOP_N": "first rows of a sort",
    "LIMIT": "first rows",
    "STREAMING_LIMIT": "first rows",
    "LIMIT_PERCENT": "first rows",
    "DELIM_SCAN": "read again",
    "RIGHT_DELIM_JOIN": "join per outer row",
    "LEFT_DELIM_JOIN": "join per outer row",
    "UNNEST": "one row per element",
    "UNION": "one after the other",
}
"""Words for DuckDB's operators; one that is not here is named in lower case."""
DETAILS = ("Table", "Join Type", "Conditions", "Groups", "Aggregates", "Filters", "Expression", "Order By", "Top")
"""What is told of a step, in this order. Everything else is about how and not what."""
INTERNAL = re.compile(r"__internal|#\d|^NULL$|^\s*$")
SCHEMA = pa.schema([("step", pa.string()), ("of", pa.string()), ("expected_rows", pa.int64())])


def plan_table(plan: list[dict[str, Any]]) -> pa.Table:
    """Steps of a plan, the last first; what a step works on is indented below it.

    `expected_rows` is DuckDB's guess, and no count.
    """
    rows: list[dict[str, Any]] = []
    for node in plan:
        _walk(node, 0, rows)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _walk(node: dict[str, Any], depth: int, rows: list[dict[str, Any]]) -> None:
    kind = str(node.get("name", "")).strip()
    info = node.get("extra_info") or {}
    inner = depth
    # A projection only computes columns; the plan reads better without.
    if kind not in ("PROJECTION", "EXPLAIN"):
        expected = str(info.get("Estimated Cardinality", ""))
        rows.append(
            {
                "step": "  " * depth + STEPS.get(kind, kind.lower().replace("_", " ")),
                "of": "; ".join(_details(info)),
                "expected_rows": int(expected) if expected.isdigit() else None,
            }
        )
        inner += 1
    for child in node.get("children", []):
        _walk(child, inner, rows)


def _details(info: dict[str, Any]) -> list[str]:
    told = []
    for name in DETAILS:
        values = info.get(name)
        texts = [str(value) for value in (values if isinstance(values, list) else [values]) if value is not None]
        texts = [text for text in texts if not INTERNAL.search(text)]
        if name == "Table":
            # The file's name is no secret, and no help either.
            texts = [text.rsplit(".", 1)[-1] for text in texts]
        if texts:
            told.append(", ".join(texts))
    return told
