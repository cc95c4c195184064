"""What makes work for a site: new deliveries, unfinished runs and changed rules; and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration import steps
from orchestration.news import find_news
from tests.faults.homes import SECRET, deliver
from warehouse.home import Home
from warehouse.lake import ensure_schema_parts
from warehouse.pseudonyms import KEY_VARIABLE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    made = Home(tmp_path / "home")
    for folder in made.folders():
        folder.mkdir(parents=True)
    made.network_file.write_text("quiet_seconds: 3600\nsites: [{code: AAA1}]\n", encoding="utf-8")
    ensure_schema_parts(made)
    return made


def news(home: Home) -> str | None:
    return find_news(home, home.network(), "AAA1")


def test_nothing_sent_and_half_copied_are_no_news(home: Home) -> None:
    assert news(home) is None
    deliver(home, "AAA1")
    (home.landing / "AAA1" / "first" / "_COMPLETE").unlink()
    assert news(home) is None


def test_a_delivery_is_news_until_its_last_step_is_done(home: Home) -> None:
    deliver(home, "AAA1")
    arrived = news(home)
    assert arrived and news(home) == arrived
    steps.receive_site(home, "AAA1")
    unfinished = news(home)  # a run that died here leaves nothing waiting in landing/
    assert unfinished and unfinished != arrived
    steps.accept_site(home, "AAA1")
    assert news(home) is None
    deliver(home, "AAA1", "second", edss="3.0")
    assert news(home)


def test_other_thresholds_and_loose_files_are_news(home: Home) -> None:
    deliver(home, "AAA1")
    steps.receive_site(home, "AAA1")
    steps.accept_site(home, "AAA1")
    text = home.network_file.read_text(encoding="utf-8")
    home.network_file.write_text(text + "thresholds: {noise: 1.0}\n", encoding="utf-8")
    assert news(home)
    home.network_file.write_text(text, encoding="utf-8")
    assert news(home) is None
    (home.landing / "AAA1" / "forgotten.csv").touch()
    assert news(home)
