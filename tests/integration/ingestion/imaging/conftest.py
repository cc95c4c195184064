"""Real scans taken into a home once per test run. They are never part of the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.ingestion.imaging.scans import DATA, Received, take, unpacked
from warehouse.home import Home


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real scans at {DATA}; set RANVIER_TEST_DATA to a folder that holds them")
    return DATA


@pytest.fixture(scope="session")
def received(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Received]:
    """One set of real scans as a site, by name."""
    root = tmp_path_factory.mktemp("real_scans")
    home = Home(root / "home")
    made: dict[str, Received] = {}

    def folder_of(name: str) -> Path:
        if name.startswith("HF"):
            return unpacked(data / "siemens_prisma_positioning" / f"{name}_t1_fl2d_sag.dicom.tar.xz", root / name)
        if name == "fmri_philips_studyforrest":  # the first three of its volumes
            return unpacked(data / name / "dicom_first40vols.tar.xz", root / name, 105)
        archives = sorted((data / name).glob("*.tar.xz"))
        return unpacked(archives[0], root / name) if archives else data / name

    def get(name: str) -> Received:
        if name not in made:
            made[name] = take(home, f"SITE{len(made) + 1}", folder_of(name))  # a code that repeats no name
        return made[name]

    return get
