"""One anatomy for all tests of a run: building it takes ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.simulator.anatomy import Anatomy, load_anatomy


@pytest.fixture(scope="session")
def head_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    load_anatomy(folder)
    return folder


@pytest.fixture(scope="session")
def head(head_cache: Path) -> Anatomy:
    return load_anatomy(head_cache)
