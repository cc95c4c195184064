"""What a tier user can try on the server ends at the tier: no other table, row, count, password or file shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from conftest import Mirrored

from warehouse.policy import load_policy

pytestmark = pytest.mark.postgres

ATTEMPTS: list[dict[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "escape_attempts.yaml").read_text(encoding="utf-8")
)


def secrets_of(mirrored: Mirrored) -> set[str]:
    """Words that only other tiers, their files or the administrator hold."""
    tiers = load_policy().tiers
    others = {table for tier in ("steward", "site") for table in tiers[tier]} - set(tiers["registered"])
    columns = {c.name for t in tiers["steward"].values() for c in t.columns}
    columns -= {c.name for t in tiers["registered"].values() for c in t.columns}
    paths = {str(mirrored.home.root), str(mirrored.server.data)}
    return mirrored.hidden | others | {"delivery_key", "consent_status"} & columns | paths | {"SCRAM-SHA-256$"}


def test_there_are_enough_attempts_of_both_kinds() -> None:
    assert len(ATTEMPTS) >= 40
    assert {attempt["expect"] for attempt in ATTEMPTS} == {"refused", "harmless"}


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt["name"].replace(" ", "-"))
def test_an_attempt_shows_nothing(mirrored: Mirrored, attempt: dict[str, str]) -> None:
    with mirrored.connect("bob", "steward") as other, mirrored.connect("alice", "registered") as connection:
        values: dict[str, Any] = {"steward": mirrored.databases["steward"], "other_pid": other.info.backend_pid}
        if "setup" in attempt:
            connection.execute(attempt["setup"])  # type: ignore[arg-type]
        statement = attempt["sql"]
        for name, value in values.items():
            statement = statement.replace("{" + name + "}", str(value))
        try:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
        except psycopg.Error as error:
            assert attempt["expect"] == "refused", error
            answer = str(error)
        else:
            assert attempt["expect"] == "harmless"
            answer = repr(cursor.fetchall()) if cursor.description else ""
        # An error repeats the statement; what stands there the user knew.
        assert not [word for word in secrets_of(mirrored) if word in answer and word not in statement]
        assert other.execute("select count(*) > 0 from dim_site").fetchone() == (True,)


def test_the_same_look_would_find_a_leak(mirrored: Mirrored) -> None:
    with mirrored.connect("bob", "steward") as connection:
        answer = repr(connection.execute("select relname from pg_class").fetchall())
        answer += repr(connection.execute("select subject_key from dim_subject").fetchall())
    found = {word for word in secrets_of(mirrored) if word in answer}
    assert {"dim_site", "fct_finding"} <= found
    assert found & mirrored.hidden


def test_names_that_everyone_sees_tell_no_tier_site_or_project(mirrored: Mirrored) -> None:
    with mirrored.connect("alice", "registered") as connection:
        names = connection.execute("select datname from pg_database union select rolname from pg_roles").fetchall()
    words = [word.lower() for target in mirrored.databases for word in target.split()]
    assert len(names) > 10
    assert not [name for (name,) in names if any(word in name.split("_") for word in words)]


def test_nothing_was_left_behind(mirrored: Mirrored) -> None:
    assert not Path("/tmp/ranvier-escape").exists()
    with mirrored.server.admin(mirrored.databases["registered"]) as admin:
        assert admin.execute("select count(*) from pg_largeobject_metadata").fetchone() == (0,)
        schemas = {name for (name,) in admin.execute("select nspname from pg_namespace where nspname !~ '^pg_'")}
        assert schemas == {"information_schema", "release", "mirror"}
