"""Taking folders of real scans into a home, for the tests of this folder."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ingestion.imaging import ImageFile, ImagesResult, receive_images
from warehouse.home import Home
from warehouse.lake import sha256_file
from warehouse.pseudonyms import Pseudonyms

DATA = Path(os.environ.get("RANVIER_TEST_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")


def unpacked(archive: Path, folder: Path, first: int | None = None) -> Path:
    with tarfile.open(archive) as opened:
        members = sorted((member for member in opened if member.isfile()), key=lambda member: member.name)
        opened.extractall(folder, members=members[:first], filter="data")
    return folder


def image_files(folder: Path) -> list[ImageFile]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [ImageFile(path, number, sha256_file(path), path.stat().st_size) for number, path in enumerate(paths, 1)]


@dataclass(frozen=True)
class Received:
    home: Home
    site: str
    files: list[ImageFile]
    result: ImagesResult

    @property
    def series(self) -> pl.DataFrame:
        return self.result.series


def take(home: Home, site: str, folder: Path) -> Received:
    files = image_files(folder)
    return Received(home, site, files, receive_images(home, site, f"dlv_{site}", files, Pseudonyms(home)))
