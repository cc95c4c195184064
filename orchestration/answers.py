"""How an answer of `ranvier sql` is printed.

Here: formats. Not here: asking (`warehouse.gateway`).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warehouse.errors import RanvierError
from warehouse.gateway import Answer

MOST_ROWS = 200
"""Rows a printed table shows; the other formats give all."""
NARROWEST = 8
"""Characters below which a column is not folded: a column of three letters cannot be read."""


def _table(answer: Answer, console: Console) -> None:
    shown, count = _first_rows(answer)
    cells = [[_cell(value) for value in row] for row in shown]
    widths = [max(len(line) for line in column) for column in zip(answer.columns, *cells, strict=True)]
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in answer.schema.types]
    # A cell may be folded, a heading may not.
    least = [min(width, max(NARROWEST, len(name))) for name, width in zip(answer.columns, widths, strict=True)]
    # Borders and padding take three characters a column and one more.
    if sum(least) + 3 * len(least) + 1 <= console.width:
        table = Table(box=box.ROUNDED if sys.stdout.isatty() else box.ASCII)
        for name, is_number, width in zip(answer.columns, numbers, least, strict=True):
            justify: Literal["left", "right"] = "right" if is_number else "left"
            table.add_column(Text(name), justify=justify, overflow="fold", min_width=width)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    else:  # too many columns for the screen: one value a line, as psql's expanded display
        name_width = max(len(name) for name in answer.columns)
        for number, row in enumerate(cells, 1):
            console.print(f"row {number}", style="bold", highlight=False)
            for name, cell in zip(answer.columns, row, strict=True):
                console.print(f"  {name:<{name_width}}  {cell}", markup=False, highlight=False, soft_wrap=True)
    left = f"; the first {MOST_ROWS} are shown, use --format csv for all" if count > MOST_ROWS else ""
    console.print(f"{count} {'row' if count == 1 else 'rows'}{left}", highlight=False)


def _first_rows(answer: Answer) -> tuple[list[tuple[Any, ...]], int]:
    """What is shown, and how many rows there are; the others are counted and let go."""
    shown: list[tuple[Any, ...]] = []
    count = 0
    for batch in answer.batches():
        if len(shown) < MOST_ROWS:
            columns = [column.to_pylist() for column in batch.slice(0, MOST_ROWS - len(shown)).columns]
            shown += list(zip(*columns, strict=True))
        count += batch.num_rows
    return shown, count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    # As many digits as say something; all of them are in the other formats.
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    # A control character in a value must not move the cursor or colour the screen.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _csv(answer: Answer, _: Console) -> None:
    with _output() as sink, pyarrow.csv.CSVWriter(sink, answer.schema) as writer:
        for batch in answer.batches():
            writer.write_batch(batch)


def _json(answer: Answer, _: Console) -> None:
    """One array of objects, written as it comes."""
    rows: Iterator[dict[str, Any]] = itertools.chain.from_iterable(batch.to_pylist() for batch in answer.batches())
    separator = "["
    for row in rows:
        sys.stdout.write(separator + json.dumps(row, default=str, ensure_ascii=False))
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[" else "]\n")


def _parquet(answer: Answer, _: Console) -> None:
    with _output() as sink, pyarrow.parquet.ParquetWriter(sink, answer.schema, compression="zstd") as writer:
        for batch in answer.batches():
            writer.write_batch(batch)


def _arrow(answer: Answer, _: Console) -> None:
    with _output() as sink, pa.ipc.new_stream(sink, answer.schema) as stream:
        for batch in answer.batches():
            stream.write_batch(batch)


def _output() -> BinaryIO:
    """Standard output for bytes; the writers close what they are given, so it is a handle of its own."""
    sys.stdout.flush()
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb")


FORMATS: dict[str, Callable[[Answer, Console], None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "arrow": _arrow,
}
BINARY = ("parquet", "arrow")


def check_format(format: str) -> None:
    """Refuse a format that is none, or that would fill a screen with bytes. Raises RanvierError."""
    if format not in FORMATS:
        raise RanvierError(f"There is no format {format!r}; choose one of {', '.join(FORMATS)}")
    if format in BINARY and os.isatty(sys.stdout.fileno()):
        raise RanvierError(f"{format} is for a file and not for a screen; add: > answer.{format}")


def print_answer(answer: Answer, format: str, console: Console) -> None:
    """Print an answer as it comes, and end its process."""
    with answer:
        FORMATS[format](answer, console)
