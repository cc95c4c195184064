"""Registry files as accidents and attackers make them, each told by a number: the same number, the same file."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl

from tests.unit.ingestion.workbook import MAIN, write_workbook

Named = tuple[str, bytes]
Mutation = Callable[[random.Random, Path], Named]

HEADER = ["patient_id", "visit_date", "edss", "visit_type"]
FORMULAS = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")', "\t=1"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "cp1250", "latin-1", "cp037"]
ENDINGS = [".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".xls", ".xlsb", ".ods", ".parquet", ".zip"]


def rows(rng: random.Random, count: int = 12) -> list[list[str]]:
    """Visits of patients with accented names in their identifiers."""
    return [
        [f"Pé{rng.randrange(99)}", f"20{n % 20:02d}-0{n % 9 + 1}-1{n % 9}", f"{rng.randrange(2, 19) / 2:g}", "clinic"]
        for n in range(count)
    ]


def text(table: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    return end.join(separator.join(row) for row in [HEADER, *table]) + end


def _encoded(rng: random.Random, folder: Path) -> Named:
    separator, end = rng.choice(",;\t|"), rng.choice(["\n", "\r\n", "\r"])
    return "visits.csv", text(rows(rng), separator, end).encode(rng.choice(ENCODINGS))


def _mixed_encodings(rng: random.Random, folder: Path) -> Named:
    return "visits.csv", b"".join(text(rows(rng, 3)).encode(rng.choice(ENCODINGS)) for _ in range(3))


def _original(rng: random.Random, folder: Path) -> Named:
    """A sound file of one of the kinds that are read."""
    kind = rng.choice(["csv", "utf16", "xlsx", "parquet", "zip"])
    table = rows(rng)
    if kind == "xlsx":
        return "visits.xlsx", write_workbook(folder / "made.xlsx", {"Visits": [HEADER, *table]}).read_bytes()
    if kind == "parquet":
        buffer = io.BytesIO()
        pl.DataFrame(table, schema=HEADER, orient="row").write_parquet(buffer)
        return "visits.parquet", buffer.getvalue()
    if kind == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("visits.csv", text(table))
        return "visits.zip", packed.getvalue()
    return "visits.csv", text(table).encode("utf-16" if kind == "utf16" else "utf-8")


def _truncated(rng: random.Random, folder: Path) -> Named:
    name, data = _original(rng, folder)
    return name, data[: rng.randrange(len(data))]


def _flipped(rng: random.Random, folder: Path) -> Named:
    name, data = _original(rng, folder)
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 30)):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return name, bytes(spoilt)


def _embedded_nul(rng: random.Random, folder: Path) -> Named:
    name, data = _original(rng, folder)
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(spoilt))
        spoilt[at:at] = b"\0" * rng.choice([1, 1, 1, 512])
    return name, bytes(spoilt)


def _formula(rng: random.Random, folder: Path) -> Named:
    table = rows(rng)
    for _ in range(4):
        rng.choice(table)[rng.randrange(4)] = rng.choice(FORMULAS)
    return "visits.csv", text(table, ";").encode()


def _giant_cell(rng: random.Random, folder: Path) -> Named:
    table = rows(rng)
    rng.choice(table)[rng.randrange(4)] = rng.choice(["x", "1", "é", " ", '"', "a b"]) * 10**6
    if rng.random() < 0.2:
        return "visits.xlsx", write_workbook(folder / "made.xlsx", {"Visits": [HEADER, *table]}).read_bytes()
    return "visits.csv", text(table).encode()


def _wrong_ending(rng: random.Random, folder: Path) -> Named:
    return "visits" + rng.choice(ENDINGS), _original(rng, folder)[1]


def _noise(rng: random.Random, folder: Path) -> Named:
    start = rng.choice([b"", b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xff\xfe", b"\xef\xbb\xbf"])
    return "visits" + rng.choice(ENDINGS), start + rng.randbytes(rng.randrange(3000))


def _broken_lines(rng: random.Random, folder: Path) -> Named:
    lines = text(rows(rng)).split("\n")
    for _ in range(5):
        at = rng.randrange(len(lines))
        lines[at] = rng.choice(['"', ",", "\t", ";", '""', "\v", ",,,,,,,"]).join(rng.sample(lines, 2))
    return "visits.csv", "\n".join(lines).encode()


def _strange_header(rng: random.Random, folder: Path) -> Named:
    header = rng.choices([*HEADER, "", "EDSS", " edss ", "patient id", "patient_id"], k=rng.randrange(1, 7))
    return "visits.csv", (",".join(header) + "\n" + text(rows(rng)).split("\n", 1)[1]).encode()


def _blank_tail(rng: random.Random, folder: Path) -> Named:
    tail = rng.choice(["\n", ",,,\n", " , ,\n", "\0\0\0\0"]) * rng.choice([1, 1000, 20_000])
    return "visits.csv", (text(rows(rng)) + tail).encode()


def _sheet(folder: Path, xml: str) -> bytes:
    """A workbook whose only sheet is the XML given."""
    plain = write_workbook(folder / "made.xlsx", {"Visits": [HEADER]})
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in source.infolist():
            archive.writestr(info, xml if info.filename.endswith("sheet1.xml") else source.read(info))
    return packed.getvalue()


def _far_cell(rng: random.Random, folder: Path) -> Named:
    """Two cells, so far apart that everything between them takes gigabytes."""
    cell = rng.choice(["XFD1048576", "ZZ1048576", "AMJ900000", "B1048576"])
    number = "".join(filter(str.isdigit, cell))
    xml = (
        f'<worksheet xmlns="{MAIN}"><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        f'<row r="{number}"><c r="{cell}"><v>1</v></c></row></sheetData></worksheet>'
    )
    return "visits.xlsx", _sheet(folder, xml)


def _bomb(rng: random.Random, folder: Path) -> Named:
    """A few kilobytes that unpack to a great deal."""
    size = rng.choice([1 << 20, 64 << 20, 600 << 20])
    packed = io.BytesIO()
    if rng.random() < 0.5:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("visits.csv", "w") as member:
            for _ in range(size >> 20):
                member.write(b"0," * (1 << 19))
        return "visits.zip", packed.getvalue()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as stream:
        for _ in range(size >> 20):
            stream.write(b"\0" * (1 << 20))
    return "visits" + rng.choice([".csv.gz", ".tar.gz", ".xlsx"]), packed.getvalue()


def _nested_bomb(rng: random.Random, folder: Path) -> Named:
    data = text(rows(rng)).encode()
    for level in range(rng.randrange(2, 6)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for copy in range(4):
                archive.writestr(f"visits_{level}_{copy}.zip" if level else f"visits_{copy}.csv", data)
        data = packed.getvalue()
    return "visits.zip", data


def _separators(rng: random.Random, folder: Path) -> Named:
    """Nothing but separators or line ends: little on disk, a lot of cells."""
    return "visits.csv", text(rows(rng)).encode() + rng.choice([b",", b"\n", b"\n,", b'"', b'",']) * (8 << 20)


def _parquet_run(rng: random.Random, folder: Path) -> Named:
    """A column of one value, ten million times over, in a few hundred bytes."""
    buffer = io.BytesIO()
    pl.select(
        pl.lit("P1").repeat_by(10_000_000).explode().alias("patient_id"), pl.lit(date(2020, 1, 1)).alias("visit_date")
    ).with_columns(edss=pl.lit(2.0), visit_type=pl.lit("clinic")).write_parquet(buffer)
    return "visits.parquet", buffer.getvalue()


QUICK: list[Mutation] = [
    _encoded,
    _mixed_encodings,
    _truncated,
    _flipped,
    _embedded_nul,
    _formula,
    _giant_cell,
    _wrong_ending,
    _noise,
    _broken_lines,
    _strange_header,
    _blank_tail,
    _nested_bomb,
]
HEAVY: list[Mutation] = [_far_cell, _bomb, _separators, _parquet_run]
"""Those that ask for memory or time: each once in a hundred files."""


def hostile_file(seed: int, folder: Path) -> Named:
    """(name, content) of a hostile file; `folder` is where it may write while it is made."""
    rng = random.Random(seed)
    mutation = HEAVY[seed // 25 % len(HEAVY)] if seed % 25 == 24 else QUICK[seed % len(QUICK)]
    name, data = mutation(rng, folder)
    stem, _, ending = name.partition(".")
    return f"{stem}_{seed}.{ending}", data
