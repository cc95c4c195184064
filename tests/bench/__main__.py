"""Benchmarks of the hot paths, each against a named peer in the same run: `python -m tests.bench [NAME ...]`.

Here: what is timed, on what, and against whom. Not here: limits as assertions (a busy machine would break them) or the
results, which stand with their machine in `docs/benchmarks.md`. All data is simulated anew.
"""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcm2niix
import pydicom
from dicomanonymizer import anonymize_dicom_file

from ingestion.imaging.deidentify import deidentify
from ingestion.imaging.index import index_files
from ingestion.imaging.model import ImageFile
from ingestion.simulator import simulate
from orchestration.cli import make_home
from qa.imaging.measure import measure_image
from warehouse.home import Home
from warehouse.pseudonyms import Pseudonyms

RUNS = 5


@dataclass(frozen=True)
class Benchmark:
    """Ours and the peer's way to the same end, called in turn; one call does `count` things of `unit`."""

    name: str
    ours: Callable[[], object]
    peer_name: str
    peer: Callable[[], object]
    count: int
    unit: str


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def line(benchmark: Benchmark) -> str:
    """One row of the table in docs/benchmarks.md: medians, and the ratio run by run, after one run not counted."""
    benchmark.ours(), benchmark.peer()
    pairs = [(seconds(benchmark.ours), seconds(benchmark.peer)) for _ in range(RUNS)]
    ours, peers = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(peer / our for our, peer in pairs)
    what = f"{benchmark.count} {benchmark.unit}"
    return f"| {benchmark.name} | {what} | {ours:.2f} s | {benchmark.peer_name} | {peers:.2f} s | {ratio:.2f} |"


def fresh(root: Path) -> Path:
    """A new empty folder below `root`."""
    return Path(tempfile.mkdtemp(dir=root))


def benchmarks(root: Path) -> list[Benchmark]:
    """Every benchmark, on one simulated site."""
    simple_itk: Any = importlib.import_module("SimpleITK")
    home = Home(root / "home")
    make_home(home, "Bench")
    simulate(home, sites=1, scans=2)
    folders = sorted({path.parent for path in home.landing.rglob("*.dcm")})
    series = sorted(folders[0].glob("*.dcm"))
    files = [ImageFile(path, number, "", path.stat().st_size) for number, path in enumerate(series, 1)]
    subprocess.run([dcm2niix.bin, "-f", "image", "-o", str(root), str(folders[0])], check=True, capture_output=True)
    image = next(root.glob("image*.nii"))
    header = {"contrast": "T1w", "acquisition_dimension": "3D"}

    def anonymize() -> None:
        target = fresh(root)
        for path in series:
            anonymize_dicom_file(str(path), str(target / path.name))

    def correct_bias() -> None:
        head = simple_itk.Shrink(simple_itk.ReadImage(str(image), simple_itk.sitkFloat32), [4, 4, 4])
        simple_itk.N4BiasFieldCorrectionImageFilter().Execute(head, simple_itk.OtsuThreshold(head, 0, 1))

    return [
        Benchmark(
            "read headers", lambda: index_files(files), "pydicom.dcmread, pixels left out",
            lambda: [pydicom.dcmread(path, stop_before_pixels=True).Modality for path in series], len(files), "files",
        ),
        Benchmark(
            "de-identify", lambda: deidentify(series, fresh(root), Pseudonyms(home).hash, "BENCH"),
            "dicom-anonymizer", anonymize, len(files), "files",
        ),
        Benchmark(
            "measure an image", lambda: measure_image(image, header, home.cache),
            "N4 of SimpleITK alone, head shrunk by 4", correct_bias, 1, "T1w of 1 mm",
        ),
    ]  # fmt: skip


def main() -> None:
    """Print the table's rows."""
    with tempfile.TemporaryDirectory() as folder:
        for benchmark in benchmarks(Path(folder)):
            if not sys.argv[1:] or benchmark.name in sys.argv[1:]:
                sys.stdout.write(line(benchmark) + "\n")


if __name__ == "__main__":
    main()
