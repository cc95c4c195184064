"""How an answer of `ranvier sql` is printed.

Here: formats. Not here: asking (`warehouse.gateway`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from warehouse.errors import RanvierError
from warehouse.gateway import Answer

MOST_ROWS = 200
"""Rows a printed table shows; the other formats give all."""


def _table(answer: Answer, console: Console) -> None:
    rows = [["" if value is None else str(value) for value in row.values()] for row in answer.table().to_pylist()]
    shown = rows[:MOST_ROWS]
    widths = [max(len(cell) for cell in column) for column in zip(answer.columns, *shown, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 <= console.width:
        table = Table(*answer.columns)
        for row in shown:
            table.add_row(*row)
        console.print(table)
    else:  # too wide for the screen: one value a line, as psql's expanded display
        name_width = max(len(name) for name in answer.columns)
        for number, row in enumerate(shown, 1):
            console.print(f"row {number}", style="bold")
            for name, cell in zip(answer.columns, row, strict=True):
                console.print(f"  {name:<{name_width}}  {cell}", markup=False, highlight=False, soft_wrap=True)
    left = f"; the first {MOST_ROWS} are shown, use --format csv for all" if len(rows) > MOST_ROWS else ""
    console.print(f"{len(rows)} rows{left}")


def _csv(answer: Answer, _: Console) -> None:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(answer.table(), sink)
    sys.stdout.buffer.write(sink.getvalue().to_pybytes())


def _json(answer: Answer, _: Console) -> None:
    sys.stdout.write(json.dumps(answer.table().to_pylist(), default=str, ensure_ascii=False) + "\n")


def _parquet(answer: Answer, _: Console) -> None:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(answer.table(), sink)
    sys.stdout.buffer.write(sink.getvalue().to_pybytes())


def _arrow(answer: Answer, _: Console) -> None:
    with pa.ipc.new_stream(sys.stdout.buffer, answer.schema) as stream:
        for batch in answer.batches():
            stream.write_batch(batch)


FORMATS: dict[str, Callable[[Answer, Console], None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "arrow": _arrow,
}


def print_answer(answer: Answer, format: str, console: Console) -> None:
    """Print an answer and end its process. Raises RanvierError for a format that is none."""
    with answer:
        if format not in FORMATS:
            raise RanvierError(f"There is no format {format!r}; choose one of {', '.join(FORMATS)}")
        FORMATS[format](answer, console)
