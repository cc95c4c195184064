"""An answer as bytes: Arrow stream, JSON, CSV, Parquet, piece by piece.

Here: choosing the format, and writing it without holding all rows. Not here: asking (`warehouse.gateway`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from warehouse.gateway import Answer

MEDIA_TYPES = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
ROW_GROUP = 100_000
"""Rows of a Parquet row group: what is held in memory at once."""


def from_accept(header: str) -> str | None:
    """The format that an Accept header asks for, the server's first choice among equals; None when there is none."""
    best: tuple[float, str | None] = (0.0, None)
    wanted = {}
    for part in header.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        wanted[media] = quality
    for name, full in MEDIA_TYPES.items():
        media = full.split(";")[0]
        quality = wanted.get(media, wanted.get(f"{media.split('/')[0]}/*", wanted.get("*/*", 0.0)))
        if quality > best[0]:
            best = (quality, name)
    return best[1]


def encode(answer: Answer, format: str) -> Iterator[bytes]:
    """The answer in a format, piece by piece. Raises what `Answer.stream` raises."""
    return ENCODERS[format](answer)


def _arrow(answer: Answer) -> Iterator[bytes]:
    return answer.stream()


def _json(answer: Answer) -> Iterator[bytes]:
    """A list of objects, one a line."""
    separator = b"["
    for batch in answer.batches():
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            columns = [_json_column(column) for column in table.columns]
            frame = pl.DataFrame(pa.table(columns, names=table.column_names))
            # A line feed inside a text is written \n, so each one here ends a row.
            yield separator + frame.write_ndjson().encode().rstrip(b"\n").replace(b"\n", b",\n")
            separator = b",\n"
    yield b"[]\n" if separator == b"[" else b"]\n"


def _csv(answer: Answer) -> Iterator[bytes]:
    sink = _Sink()
    writer = None
    for batch in answer.batches():
        table = pa.Table.from_batches([batch])
        flat = pa.table([_flat(column) for column in table.columns], names=table.column_names)
        if writer is None:
            writer = pa.csv.CSVWriter(pa.PythonFile(sink, mode="w"), flat.schema)
        writer.write_table(flat)
        yield sink.taken()
    if writer is None:
        empty = answer.schema.empty_table()
        flat = pa.table([_flat(column) for column in empty.columns], names=empty.column_names)
        writer = pa.csv.CSVWriter(pa.PythonFile(sink, mode="w"), flat.schema)
    writer.close()
    yield sink.taken()


def _parquet(answer: Answer) -> Iterator[bytes]:
    sink = _Sink()
    empty = answer.schema.empty_table()
    schema = pa.schema([(field.name, _stored(column).type) for field, column in zip(empty.schema, empty, strict=True)])
    held: list[pa.RecordBatch] = []
    with pa.parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:

        def write() -> None:
            table = pa.Table.from_batches(held, schema=answer.schema)
            writer.write_table(pa.table([_stored(column) for column in table.columns], schema=schema))
            held.clear()

        for batch in answer.batches():
            held.append(batch)
            if sum(some.num_rows for some in held) >= ROW_GROUP:
                write()
                yield sink.taken()
        if held:
            write()
    yield sink.taken()


ENCODERS: dict[str, Callable[[Answer], Iterator[bytes]]] = {
    "json": _json,
    "arrow": _arrow,
    "csv": _csv,
    "parquet": _parquet,
}


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    def text(value: Any) -> str | None:
        return None if value is None else value.hex() if isinstance(value, bytes) else str(value)

    return pa.chunked_array([pa.array([text(value) for value in column.to_pylist()], pa.string())])


def _stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What Parquet can hold: spans of time as text."""
    return _as_text(column) if pa.types.is_interval(column.type) else column


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What CSV can hold: lists and the like as text."""
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_interval(kind) or pa.types.is_binary(kind):
        return _as_text(column)
    return _iso(column)


def _iso(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(column.type):
        return column
    return pc.strftime(column, format="%Y-%m-%dT%H:%M:%S" + ("Z" if column.type.tz else ""))


def _json_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What JSON can hold; a whole number stays one also where DuckDB counts in 128 bits."""
    kind = column.type
    if pa.types.is_interval(kind) or pa.types.is_binary(kind) or pa.types.is_time(kind):
        return _as_text(column)
    if pa.types.is_decimal(kind):
        try:
            return column.cast(pa.int64() if kind.scale == 0 else pa.float64())
        except pa.ArrowInvalid:  # beyond 64 bits
            return _as_text(column)
    return _iso(column)


class _Sink:
    """A file that keeps what is written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def taken(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content
