"""Who may ask which tier, and the tokens they show for it.

Here: grants and tokens in `<home>/access/users.json` (0600, atomic, one writer at a time), and the check of a token.
Not here: what a tier holds (`warehouse.policy`), projects themselves, how a token travels (`warehouse.serve`).
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse.errors import AccessError
from warehouse.home import PROJECT_NAME, SITE_CODE, Home
from warehouse.lake import temporary

if TYPE_CHECKING:
    from argon2 import PasswordHasher

TIERS = ("open", "registered", "controlled", "steward", "site")
NAME = re.compile(r"^[a-z][a-z0-9._@-]{0,62}$")
"""At most 63 characters, so that a name is a PostgreSQL role too."""
TOKEN = re.compile(r"^rvn_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$")
"""Public id, then 256 random bits."""
LONGEST_DAYS = 366
CACHE_SECONDS = 60.0
"""How long a checked token is not put through argon2 again; a change of the file ends it at once."""


@dataclass(frozen=True)
class User:
    """One grant: a person and one tier. A person may hold several."""

    name: str
    tier: str
    site: str | None = None
    project: str | None = None
    until: date | None = None
    """Last day (UTC) on which the grant holds; without one it holds until it is revoked."""
    is_revoked: bool = False

    def holds(self) -> bool:
        """Whether the grant can be used today."""
        return not self.is_revoked and (self.until is None or _today() <= self.until)

    @property
    def target(self) -> tuple[str, str | None, str | None]:
        """What is granted: tier, site, project."""
        return self.tier, self.site, self.project


@dataclass(frozen=True)
class Token:
    """A token as it is kept: never the token itself, only its argon2 hash."""

    token_id: str
    name: str
    issued: date
    until: date
    """Last day (UTC) on which it is accepted."""
    hash: str
    is_revoked: bool = False

    def holds(self) -> bool:
        """Whether it is accepted today."""
        return not self.is_revoked and _today() <= self.until


def _today() -> date:
    return datetime.now(UTC).date()


def _path(home: Home) -> Path:
    return home.access / "users.json"


def _read(home: Home) -> tuple[list[User], list[Token]]:
    try:
        raw: dict[str, list[dict[str, Any]]] = json.loads(_path(home).read_text(encoding="utf-8"))
        users = [User(**row | {"until": _date(row["until"])}) for row in raw["users"]]
        tokens = [
            Token(**row | {"issued": date.fromisoformat(row["issued"]), "until": date.fromisoformat(row["until"])})
            for row in raw["tokens"]
        ]
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AccessError("access/users.json cannot be read, so nobody is let in; restore it from a backup") from error
    return users, tokens


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


@contextmanager
def _changing(home: Home) -> Iterator[tuple[list[User], list[Token]]]:
    """The lists, to change in place; written when the block ends well. One process at a time."""
    home.access.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(home.access / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users, tokens = _read(home)
        yield users, tokens
        content = {"users": [asdict(user) for user in users], "tokens": [asdict(token) for token in tokens]}
        with temporary(_path(home)) as draft:
            draft.touch(mode=0o600)
            draft.write_text(json.dumps(content, indent=1, default=date.isoformat) + "\n", encoding="utf-8")
    finally:
        os.close(lock)


def list_users(home: Home) -> list[User]:
    """Every grant, by name. Raises AccessError when the file is damaged."""
    return sorted(_read(home)[0], key=lambda user: (user.name, *(part or "" for part in user.target)))


def add_user(home: Home, user: User) -> None:
    """Give a person one tier; the same grant again renews it and changes its last day.

    Raises
    ------
    AccessError
        Name, tier, site or project do not fit together.
    HomeError
        The network has no such site.
    """
    if not NAME.fullmatch(user.name):
        raise AccessError("A user's name is at most 63 small letters, digits and . _ @ -, and begins with a letter")
    if user.tier not in TIERS:
        raise AccessError(f"There is no tier {user.tier[:20]!r}; there are {', '.join(TIERS)}")
    if (user.tier == "site") != (user.site is not None):
        raise AccessError(
            "The tier site needs a site's code, and no other tier takes one; use: --tier site --site CODE"
        )
    if (user.tier == "controlled") != (user.project is not None):
        raise AccessError(
            "The tier controlled needs a project, and no other tier takes one; use: --tier controlled --project NAME"
        )
    if user.site is not None:
        if not SITE_CODE.fullmatch(user.site):
            raise AccessError("A site's code is 2-16 capital letters, digits, '-' or '_'")
        home.network().site(user.site)
    if user.project is not None and not PROJECT_NAME.fullmatch(user.project):
        raise AccessError("A project's name is 2 to 32 small letters, digits and '_', and begins with a letter")
    with _changing(home) as (users, _):
        users[:] = [held for held in users if (held.name, held.target) != (user.name, user.target)]
        users.append(user)


def revoke_user(home: Home, name: str) -> None:
    """Take back every grant and every token of a person; it acts on their next request.

    Raises AccessError when nobody has that name.
    """
    with _changing(home) as (users, tokens):
        if not any(user.name == name for user in users):
            raise AccessError(f"There is no user {name[:40]!r}; see: ranvier user list")
        users[:] = [replace(user, is_revoked=True) if user.name == name else user for user in users]
        tokens[:] = [replace(token, is_revoked=True) if token.name == name else token for token in tokens]


def list_tokens(home: Home) -> list[Token]:
    """Every token that was issued, by name and day. Raises AccessError when the file is damaged."""
    return sorted(_read(home)[1], key=lambda token: (token.name, token.issued, token.token_id))


def issue_token(home: Home, name: str, days: int = 90) -> tuple[str, Token]:
    """Make a token for a person. The text is returned this once; only its hash is kept.

    Raises
    ------
    AccessError
        The person has no grant that holds, or the days are not 1 to 366.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise AccessError(f"A token holds for 1 to {LONGEST_DAYS} days")
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"rvn_{token_id}_{secret}"
    token = Token(token_id, name, _today(), _today() + timedelta(days=days), _hasher().hash(text))
    with _changing(home) as (users, tokens):
        if not any(user.name == name and user.holds() for user in users):
            raise AccessError(
                f"{name[:40]!r} has no grant that holds; give one with: ranvier user add NAME --tier TIER"
            )
        tokens.append(token)
    return text, token


def revoke_token(home: Home, token_id: str) -> None:
    """Take one token back. Raises AccessError when there is none with that id."""
    with _changing(home) as (_, tokens):
        if not any(token.token_id == token_id for token in tokens):
            raise AccessError(f"There is no token {token_id[:20]!r}; see: ranvier user list --tokens")
        tokens[:] = [replace(token, is_revoked=True) if token.token_id == token_id else token for token in tokens]


def _hasher() -> PasswordHasher:
    # Imported here: `ranvier sql` starts without it. The least that OWASP asks of argon2id for passwords; a token of
    # 256 random bits cannot be guessed at any cost (Password Storage Cheat Sheet: m=19 MiB, t=2, p=1).
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class Doorkeeper:
    """Checks tokens for a process that lives long, cheaply and up to date.

    A token goes through argon2 once; for a minute after that its keyed digest is enough. Each check looks whether the
    file was replaced, so that a revoked token or grant is refused from the next request on.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._hasher = _hasher()
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._users: list[User] = []
        self._tokens: dict[str, Token] = {}
        self._checked: dict[bytes, float] = {}

    def grants(self, text: str) -> tuple[str, list[User]]:
        """Name and holding grants of the person who shows this token.

        Raises
        ------
        AccessError
            The token is not one of ours, has expired or was revoked. The text does not say which, nor repeats it.
        """
        refusal = AccessError("The token is not valid, has expired or was revoked; ask the data manager for a new one")
        found = TOKEN.fullmatch(text)
        if found is None:
            raise refusal
        with self._lock:  # one argon2 at a time: many wrong tokens at once must not take the memory
            self._refresh()
            token = self._tokens.get(found.group(1))
            if token is None or not token.holds() or not self._is_right(token, text):
                raise refusal
            return token.name, [user for user in self._users if user.name == token.name and user.holds()]

    def _refresh(self) -> None:
        try:
            found = _path(self._home).stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            version = None
        if version != self._version:
            users, tokens = _read(self._home)
            self._users, self._tokens = users, {token.token_id: token for token in tokens}
            self._version = version
            self._checked.clear()

    def _is_right(self, token: Token, text: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        digest = hmac.digest(self._key, text.encode(), "sha256")
        now = time.monotonic()
        if self._checked.get(digest, 0.0) > now:
            return True
        try:
            self._hasher.verify(token.hash, text)
        except (VerificationError, InvalidHashError):
            return False
        self._checked = {kept: end for kept, end in self._checked.items() if end > now}
        self._checked[digest] = now + CACHE_SECONDS
        return True
