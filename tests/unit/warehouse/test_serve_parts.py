"""Parts of the gateway that need no release: limits, formats, where the server may listen."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from orchestration.cli import app
from warehouse.errors import HomeError
from warehouse.gateway_process import unique
from warehouse.serve import limits
from warehouse.serve.formats import from_accept
from warehouse.serve.limits import Limits, TooMany
from warehouse.workers import Stop


def test_requests_come_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    counted = Limits()
    for _ in range(10):
        counted.count("ada", 60)
    with pytest.raises(TooMany) as refused:
        counted.count("ada", 60)
    assert refused.value.retry_seconds == 1
    counted.count("bob", 60)
    now[0] += 1
    counted.count("ada", 60)
    with pytest.raises(TooMany):
        counted.count("ada", 60)


def test_places_are_given_back() -> None:
    counted = Limits()
    counted.begin("ada", 1)
    with pytest.raises(TooMany):
        counted.begin("ada", 1)
    counted.begin("bob", 1)
    counted.end("ada")
    counted.begin("ada", 1)


@pytest.mark.parametrize(
    ("header", "format"),
    [
        ("", None),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/html, application/json;q=0.9", "json"),
        ("text/csv;q=0", None),
        ("application/json;q=0.2, text/csv;q=0.3", "csv"),
        ("image/png", None),
        (";;;q=x,,,/*/", None),
        ("TEXT/CSV ; Q=1", "csv"),
    ],
)
def test_the_accept_header(header: str, format: str | None) -> None:
    assert from_accept(header) == format


def test_columns_of_one_name() -> None:
    assert unique(["a", "a", "a_1", "b", "a"]) == ["a", "a_1", "a_1_1", "b", "a_2"]


def test_a_stop_that_came_first_acts_as_soon_as_it_can() -> None:
    done: list[str] = []
    stop = Stop()
    stop.set()
    stop.acts_on(lambda: done.append("stopped"))
    assert done == ["stopped"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "Tokens would cross the network"),
        (("--host", "::"), "Tokens would cross the network"),
        (("--host", "gateway.example.org"), "Tokens would cross the network"),
        (("--tls-cert", "x.pem"), "TLS needs both"),
        (("--tls-cert", "x.pem", "--tls-key", "y.pem"), "There is no file"),
        ((), "is not a Ranvier home"),
        (("--host", "0.0.0.0", "--behind-proxy", "10.0.0.1"), "is not a Ranvier home"),
    ],
)
def test_where_the_server_may_not_listen(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    command = typer.main.get_command(app)
    with pytest.raises(HomeError, match=said):
        command.main(["serve", "--home", str(tmp_path), *words], standalone_mode=False)
