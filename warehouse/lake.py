"""How anything gets onto the lake's disk: a temporary name, fsync, then one rename.

Here: atomic writes, content-addressed objects, the place of each table's Parquet. Not here: what the tables mean
(`warehouse.tables`) or who may read them (`warehouse.policy`).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from warehouse.home import Home
from warehouse.tables import LAKE_TABLES, schema_of

CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value in canonical form: the key of anything cached."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def point(link: Path, target: str | Path) -> None:
    """Make a symlink point at something else, in one step."""
    draft = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
    draft.symlink_to(target)
    draft.replace(link)
    fsync_folder(link.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """A hidden path beside `target`; when the block ends well it is fsynced and renamed to it, else removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield draft
        with draft.open("rb") as handle:
            os.fsync(handle.fileno())
        draft.replace(target)
        fsync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    with temporary(target) as draft:
        draft.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    write_bytes(target, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_parquet(target: Path, frame: pl.DataFrame) -> None:
    with temporary(target) as draft:
        frame.write_parquet(draft, compression="zstd")


def put_object(home: Home, fill: Callable[[BinaryIO], None], suffix: str) -> tuple[str, Path]:
    """Store bytes under their own hash.

    Parameters
    ----------
    fill
        Writes the content into the handle it is given.
    suffix
        File name ending, such as `.nii.gz`.

    Returns
    -------
    (sha256, path)
        Storing the same content again keeps the file that is there.
    """
    folder = home.lake / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with draft.open("wb") as handle:
            fill(handle)
            handle.flush()
            os.fsync(handle.fileno())
        digest = sha256_file(draft)
        target = object_path(home, digest, suffix)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
            fsync_folder(target.parent)
        return digest, target
    finally:
        draft.unlink(missing_ok=True)


def put_file(home: Home, source: Path, suffix: str) -> tuple[str, Path]:
    """`put_object` for a file that exists."""

    def fill(handle: BinaryIO) -> None:
        with source.open("rb") as original:
            shutil.copyfileobj(original, handle, CHUNK)

    return put_object(home, fill, suffix)


def object_path(home: Home, digest: str, suffix: str) -> Path:
    return home.lake / "objects" / digest[:2] / f"{digest}{suffix}"


def part_path(home: Home, table: str, site_code: str, delivery_key: str | None = None) -> Path:
    """Where one site's part of a table lies.

    Tables of what arrived have one immutable file per delivery; tables of what was made of it have one per site,
    replaced as a whole. `warehouse.tables` says which is which.
    """
    grain = LAKE_TABLES[table].grain
    if (grain == "delivery") != (delivery_key is not None):
        raise ValueError(f"{table} is stored per {grain}")
    return home.lake / table / f"site={site_code}" / f"{delivery_key or 'current'}.parquet"


def write_part(home: Home, table: str, frame: pl.DataFrame, site_code: str, delivery_key: str | None = None) -> Path:
    """Write one part with exactly the table's declared columns and types."""
    target = part_path(home, table, site_code, delivery_key)
    schema = schema_of(table)
    write_parquet(target, frame.select([pl.col(name).cast(kind) for name, kind in schema.items()]))
    return target


def read_table(home: Home, table: str, site_code: str | None = None) -> pl.DataFrame:
    """All parts of a table, or one site's; an empty frame with the declared schema where there are none."""
    root = home.lake / table
    parts = sorted(root.glob(f"site={site_code or '*'}/[!.]*.parquet"))
    schema = schema_of(table)
    if not parts:
        return pl.DataFrame(schema=schema)
    frames = [pl.read_parquet(part, hive_partitioning=False) for part in parts]
    # A part that is older than a column has nothing in it.
    empty = pl.DataFrame(schema=schema)
    return pl.concat([pl.concat([empty, frame], how="diagonal").select(list(schema)) for frame in frames])


def tables_with(column: str) -> list[str]:
    """Tables that have a column of this name."""
    return [table for table in LAKE_TABLES if column in schema_of(table)]


def distinct(home: Home, table: str, column: str) -> set[str]:
    """Different values of a column over all sites, nulls aside; none where the table lacks the column."""
    if column not in schema_of(table):
        return set()
    found: set[str] = set()
    for part in sorted((home.lake / table).glob("site=*/[!.]*.parquet")):
        found.update(pl.scan_parquet(part).select(pl.col(column).unique()).collect()[column].drop_nulls())
    return found


def ensure_schema_parts(home: Home) -> None:
    """Give every table a zero-row part, so that a glob over it always finds a file and its types."""
    for table in LAKE_TABLES:
        target = home.lake / table / "site=_schema" / "_schema.parquet"
        if not target.exists() or pl.read_parquet_schema(target) != schema_of(table):
            write_parquet(target, pl.DataFrame(schema=schema_of(table)))
