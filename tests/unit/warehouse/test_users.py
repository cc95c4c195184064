"""Grants and tokens: what is kept, who is let in, and that taking back acts at once."""

from __future__ import annotations

import json
import multiprocessing
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orchestration.cli import app
from warehouse import users
from warehouse.errors import AccessError, HomeError
from warehouse.home import Home
from warehouse.users import Doorkeeper, User, add_user, issue_token, list_tokens, list_users, revoke_token, revoke_user

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
TODAY = datetime.now(UTC).date()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "network.yaml").write_text("name: Test\nsites:\n- code: AA\n")
    return Home(tmp_path)


def test_a_person_may_hold_several_grants_and_renew_one(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    add_user(home, User("ada", "controlled", project="steps"))
    add_user(home, User("ada", "site", site="AA"))
    add_user(home, User("ada", "registered", until=TODAY))
    assert list_users(home) == [
        User("ada", "controlled", project="steps"),
        User("ada", "registered", until=TODAY),
        User("ada", "site", site="AA"),
    ]


@pytest.mark.parametrize(
    "user",
    [
        User("Ada", "registered"),
        User("ada\n", "registered"),
        User("../ada", "registered"),
        User("", "registered"),
        User("a" * 64, "registered"),
        User("ada", "root"),
        User("ada", "site"),
        User("ada", "registered", site="AA"),
        User("ada", "site", site="../AA"),
        User("ada", "site", site="AA\n"),
        User("ada", "controlled"),
        User("ada", "controlled", project="../steward"),
        User("ada", "controlled", project="steps\n"),
        User("ada", "registered", project="steps"),
    ],
)
def test_what_does_not_fit_together_is_no_grant(home: Home, user: User) -> None:
    with pytest.raises(AccessError):
        add_user(home, user)
    assert list_users(home) == []


def test_a_site_must_be_of_the_network(home: Home) -> None:
    with pytest.raises(HomeError, match="no site 'ZZ'"):
        add_user(home, User("ada", "site", site="ZZ"))


def test_a_token_lets_its_person_in_and_is_kept_only_as_a_hash(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    add_user(home, User("bob", "steward"))
    text, token = issue_token(home, "ada", 30)
    assert token.until == TODAY + timedelta(days=30)
    assert Doorkeeper(home).grants(text) == ("ada", [User("ada", "registered")])
    kept = (home.access / "users.json").read_text()
    assert text.rsplit("_", 1)[-1] not in kept and "$argon2id$" in kept
    assert [path.stat().st_mode & 0o777 for path in sorted(home.access.iterdir())] == [0o600, 0o600]
    assert home.access.stat().st_mode & 0o777 == 0o700


def test_wrong_tokens_are_refused(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    text, _ = issue_token(home, "ada")
    other, _ = issue_token(home, "ada")
    door = Doorkeeper(home)
    last = "A" if text[-2] != "A" else "B"
    for wrong in (
        "",
        text[:-2] + last + text[-1],
        text + "\n",
        text[:-1],
        text.upper(),
        other[:17] + text[17:],
        "Bearer " + text,
    ):
        with pytest.raises(AccessError, match="not valid"):
            door.grants(wrong)
    assert door.grants(text)[0] == "ada"


def test_taking_back_acts_on_the_next_request_although_checked_tokens_are_remembered(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    first, token = issue_token(home, "ada")
    second, _ = issue_token(home, "ada")
    door = Doorkeeper(home)
    assert door.grants(first) and door.grants(second)
    revoke_token(home, token.token_id)
    with pytest.raises(AccessError):
        door.grants(first)
    assert door.grants(second)
    revoke_user(home, "ada")
    with pytest.raises(AccessError):
        door.grants(second)
    add_user(home, User("ada", "registered"))
    with pytest.raises(AccessError):  # a new grant does not bring old tokens back
        door.grants(second)
    assert [held.is_revoked for held in list_tokens(home)] == [True, True]


def test_argon2_runs_once_per_token(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    add_user(home, User("ada", "registered"))
    text, _ = issue_token(home, "ada")
    door = Doorkeeper(home)
    door.grants(text)

    def fail(*_: object) -> bool:
        raise AssertionError("argon2 ran again")

    monkeypatch.setattr(type(door._hasher), "verify", fail)
    assert door.grants(text)[0] == "ada"
    monkeypatch.setattr(users.time, "monotonic", lambda: float("inf"))
    with pytest.raises(AssertionError):
        door.grants(text)


def test_what_is_over_is_over(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    add_user(home, User("ada", "steward", until=YESTERDAY))
    text, _ = issue_token(home, "ada")
    assert Doorkeeper(home).grants(text)[1] == [User("ada", "registered")]
    with users._changing(home) as (_, tokens):
        tokens[:] = [replace(token, until=YESTERDAY) for token in tokens]
    with pytest.raises(AccessError):
        Doorkeeper(home).grants(text)


def test_nobody_without_a_grant_gets_a_token(home: Home) -> None:
    with pytest.raises(AccessError, match="no grant"):
        issue_token(home, "ada")
    add_user(home, User("ada", "registered", until=YESTERDAY))
    with pytest.raises(AccessError, match="no grant"):
        issue_token(home, "ada")
    with pytest.raises(AccessError, match="no user"):
        revoke_user(home, "bob")
    with pytest.raises(AccessError, match="1 to 366"):
        issue_token(home, "ada", 0)


def test_a_damaged_file_lets_nobody_in(home: Home) -> None:
    add_user(home, User("ada", "registered"))
    text, _ = issue_token(home, "ada")
    door = Doorkeeper(home)
    door.grants(text)
    (home.access / "users.json").write_text('{"users": [')
    for _ in range(2):
        with pytest.raises(AccessError, match="cannot be read"):
            door.grants(text)
    (home.access / "users.json").unlink()
    with pytest.raises(AccessError, match="not valid"):
        door.grants(text)


def _add_many(root: str, letter: str) -> None:
    for number in range(20):
        add_user(Home(Path(root)), User(f"{letter}{number}", "registered"))


def test_writers_at_once_lose_nothing(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        pool.starmap(_add_many, [(str(home.root), letter) for letter in "abc"])
    assert len(list_users(home)) == 60


def test_the_commands(home: Home) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["user", *words, "--home", str(home.root)])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("add", "ada", "--tier", "registered", "--until", "2999-06-30")
    made = json.loads(run("token", "ada", "--days", "5", "--json"))
    assert Doorkeeper(home).grants(made["token"]) == ("ada", [User("ada", "registered", until=date(2999, 6, 30))])
    assert re.fullmatch(users.TOKEN.pattern + "\n", run("token", "ada"))
    listed = json.loads(run("list", "--tokens", "--json"))
    assert listed["users"][0]["until"] == "2999-06-30"
    assert len(listed["tokens"]) == 2 and "hash" not in listed["tokens"][0]
    run("revoke", "ada", "--token", made["token_id"])
    assert "revoked" in run("list", "--tokens")
    run("revoke", "ada")
    assert all(user.is_revoked for user in list_users(home))
    with pytest.raises(AccessError):
        typer.main.get_command(app).main(["user", "revoke", "nobody", "--home", str(home.root)], standalone_mode=False)
