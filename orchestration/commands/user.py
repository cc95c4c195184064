"""`ranvier user`: who may ask which tier, and their tokens."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated

import typer
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.home import find_home

app = typer.Typer(no_args_is_help=True, help="Who may ask which tier, and their tokens for the gateway.")

Name = Annotated[str, typer.Argument(help="The person's name: small letters, digits and . _ @ -")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=date.isoformat, ensure_ascii=False) + "\n")


@app.command("add")
def user_add(
    name: Name,
    home: HomeOption = None,
    tier: Annotated[str, typer.Option(help="open, registered, controlled, steward or site.")] = "registered",
    site: Annotated[str | None, typer.Option(help="The site, for tier `site`.")] = None,
    project: Annotated[str | None, typer.Option(help="The project, for tier `controlled`.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Last day, such as 2027-06-30.", formats=["%Y-%m-%d"])] = None,
    as_json: Json = False,
) -> None:
    """Give a person a tier; again for another. Example: ranvier user add mrossi --tier registered --until 2027-06-30"""
    from warehouse.users import User, add_user

    user = User(name, tier, site, project, until.date() if until else None)
    add_user(find_home(home), user)
    if as_json:
        _print_json(asdict(user))
        return
    last = f" until {user.until}" if user.until else ""
    out.print(f"{name} may ask {tier}{last}. Next: ranvier user token {name} --days 90", soft_wrap=True)


@app.command("list")
def user_list(
    home: HomeOption = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="List the tokens too.")] = False,
    as_json: Json = False,
) -> None:
    """List who may ask what. Example: ranvier user list --tokens"""
    from warehouse.users import list_tokens, list_users

    place = find_home(home)
    grants = list_users(place)
    issued = list_tokens(place) if tokens else []
    if as_json:
        shown = [{name: value for name, value in asdict(token).items() if name != "hash"} for token in issued]
        _print_json({"users": [asdict(user) for user in grants]} | ({"tokens": shown} if tokens else {}))
        return
    table = Table("user", "tier", "site or project", "until", "state")
    for user in grants:
        state = "revoked" if user.is_revoked else "holds" if user.holds() else "over"
        table.add_row(user.name, user.tier, user.site or user.project or "", str(user.until or ""), state)
    out.print(table)
    if tokens:
        table = Table("token", "user", "issued", "until", "state")
        for token in issued:
            state = "revoked" if token.is_revoked else "holds" if token.holds() else "over"
            table.add_row(token.token_id, token.name, str(token.issued), str(token.until), state)
        out.print(table)


@app.command("token")
def user_token(
    name: Name,
    home: HomeOption = None,
    days: Annotated[int, typer.Option(help="How long it holds, 1 to 366.")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token and print it this once. Example: ranvier user token mrossi --days 90"""
    from warehouse.users import issue_token

    text, token = issue_token(find_home(home), name, days)
    if as_json:
        _print_json({"token": text, "token_id": token.token_id, "name": name, "until": token.until})
        return
    sys.stdout.write(text + "\n")
    typer.echo(f"Token {token.token_id} of {name}, until {token.until}. It is not shown again.", err=True)


@app.command("revoke")
def user_revoke(
    name: Name,
    home: HomeOption = None,
    token: Annotated[str | None, typer.Option(help="Only this token, by its id.")] = None,
) -> None:
    """Take back all grants and tokens of a person, at once. Example: ranvier user revoke mrossi"""
    from warehouse.errors import AccessError
    from warehouse.users import list_tokens, revoke_token, revoke_user

    place = find_home(home)
    if token is None:
        revoke_user(place, name)
        out.print(f"{name} may ask nothing but what is open, from now on.")
        return
    if not any((held.token_id, held.name) == (token, name) for held in list_tokens(place)):
        raise AccessError(f"{name} has no token {token[:20]!r}; see: ranvier user list --tokens")
    revoke_token(place, token)
    out.print(f"Token {token} is not accepted any more.")
