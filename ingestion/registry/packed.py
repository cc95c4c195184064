"""Opening workbooks and Parquet files, in a process that a hostile one may break.

Here: starting `ingestion.packed_process`, its limits, and what its end means. Not here: reading text (`grids`). A
workbook of ten kilobytes can ask for a hundred gigabytes, and its reader ends the whole process when it gets none: so
it has a process of its own, with little memory, no network and nowhere to write.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import polars as pl

from ingestion.packed_process import DAMAGED_WORKBOOK
from ingestion.registry.model import FileRefused, Grid

WORKBOOK_ENDINGS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
PACKED_STARTS = (b"PK", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PAR1")
"""First bytes of workbooks (zip, and the older OLE2) and of Parquet."""
ADDRESS_SPACE = 2 << 30
"""Bytes. Reading 8 million cells takes about half of it; a workbook that names one cell far out takes all of it."""
START = (
    f"from warehouse.confinement import confine; confine(address_space={ADDRESS_SPACE}); "
    "from ingestion.packed_process import main; main()"
)
"""Confined before anything heavy is imported: threads of a library would keep a user from leaving the network."""
SECONDS = 120
"""A workbook of the largest size allowed takes about 30 s."""


def packed_grids(path: Path) -> list[Grid]:
    """The grids of a workbook or Parquet file.

    Raises
    ------
    FileRefused
        It is damaged, protected, of no kind that is read, or needs more memory or time than a table may.
    """
    # Nothing of our environment is handed on: it may hold the secret behind the pseudonyms.
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        "POLARS_MAX_THREADS": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-B", "-c", START, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_demanding() from None
    if done.returncode != 0:
        raise _too_demanding()
    return _grids(io.BytesIO(done.stdout))


def _grids(answer: IO[bytes]) -> list[Grid]:
    head: dict[str, Any] = json.loads(answer.readline())
    if "refused" in head:
        raise FileRefused(*head["refused"])
    grids = []
    for number, (name, length) in enumerate(head["sheets"], start=1):
        cells = pl.read_ipc_stream(io.BytesIO(answer.read(length)))
        rows = [list(row) for row in cells.iter_rows()]
        grids.append(Grid(rows, name, number, is_typed=True, day_offset=head["day_offset"]))
    if not grids:
        raise FileRefused("empty_file", "The workbook has no sheet; export the table again and send it.")
    return grids


def _too_demanding() -> FileRefused:
    return FileRefused(
        "table_too_demanding",
        "The file needs more memory or time than a table may take; delete empty rows and columns behind the last used "
        "ones, or send it as CSV.",
    )


def damaged_workbook() -> FileRefused:
    """The refusal of a file with a workbook's ending that is none."""
    return FileRefused(*DAMAGED_WORKBOOK)
