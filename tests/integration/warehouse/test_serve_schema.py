"""Requests made up by schemathesis from the OpenAPI document: the application never fails and keeps to the document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from network import Lake
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import copy_release
from starlette.testclient import TestClient

from warehouse.serve.app import make_app
from warehouse.serve.guard import HEADERS
from warehouse.users import User, add_user, issue_token

SHORT, LONG = 4, 400
"""Examples of each address."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def client(released: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    home = copy_release(released.home, tmp_path_factory.mktemp("schema") / "home", seconds=2)
    add_user(home, User("fuzz", "registered"))
    token, _ = issue_token(home, "fuzz")
    with TestClient(make_app(home), raise_server_exceptions=True) as running:
        yield running, token


def _run(client: tuple[TestClient, str], examples: int) -> dict[str, int]:
    running, token = client
    schema = schemathesis.openapi.from_dict(running.get("/openapi.json").json())
    seen: dict[str, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def check(case: schemathesis.Case) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            arguments = case.as_transport_kwargs(base_url="http://testserver", headers=headers)
            arguments.pop("cookies", None)
            found = running.request(**arguments)
            case.validate_response(found, checks=CHECKS)
            assert set(HEADERS) <= set(found.headers)
            key = f"{case.method} {case.path} {found.status_code // 100}xx"
            seen[key] = seen.get(key, 0) + 1

        given(case=operation.as_strategy())(check)()
    return seen


def test_a_few_made_up_requests(client: tuple[TestClient, str]) -> None:
    seen = _run(client, SHORT)
    assert not [key for key in seen if key.endswith("5xx")]
    assert {"GET /health 2xx", "GET /v1/tables 2xx", "GET /v1/dictionary 2xx"} <= set(seen)


@pytest.mark.slow
def test_many_made_up_requests(client: tuple[TestClient, str]) -> None:
    seen = _run(client, LONG)
    assert not [key for key in seen if key.endswith("5xx")]
    assert sum(seen.values()) > LONG
