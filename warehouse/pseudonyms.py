"""The pseudonym table: the only place where a site's identifier meets a key of the network.

Here: random keys, looked up by a keyed hash of what a site sent; identifiers themselves are not stored. Not here:
consent, and who the projects are (`warehouse.projects`). A key says nothing about what it stands for, so a release can
never be attacked by hashing guesses.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from warehouse.errors import HomeError
from warehouse.home import Home

Kind = Literal["delivery", "subject", "session", "series", "scanner"]
PREFIX: dict[str, str] = {"delivery": "dlv", "subject": "sbj", "session": "ses", "series": "ser", "scanner": "scn"}
KEY_VARIABLE = "RANVIER_PSEUDONYM_KEY"

TABLES = """
create table if not exists pseudonym (
    kind text not null, lookup text not null, site_code text not null, key text not null unique,
    primary key (kind, lookup)
);
create table if not exists identity (
    identity_hash text not null, subject_key text not null, site_code text not null,
    primary key (identity_hash, subject_key)
);
create table if not exists project_pseudonym (
    project text not null, key text not null, project_key text not null unique, shift_days integer,
    primary key (project, key)
);
"""


def hashing_key(home: Home) -> bytes:
    """The secret behind every lookup: from the environment, else from a file only its owner can read.

    A network sets `RANVIER_PSEUDONYM_KEY`, so that a copy of the home is useless without it. Where it is not set, a key
    is made once at `<home>/lake/pseudonyms/key`.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        if len(given) < 32:
            raise HomeError(f"{KEY_VARIABLE} is too short to be a secret; use at least 32 random characters")
        return given.encode()
    path = _folder(home) / "key"
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key is the home's
            os.link(draft, path)
        draft.unlink()
        return bytes.fromhex(path.read_text(encoding="ascii"))


def _folder(home: Home) -> Path:
    folder = home.lake / "pseudonyms"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


class Pseudonyms:
    """Look up, or make, the keys of one home. Safe to use from several processes at once."""

    def __init__(self, home: Home) -> None:
        self._path = _folder(home) / "pseudonyms.sqlite"
        self._secret = hashing_key(home)
        with self._connect() as db:
            db.executescript(TABLES)
        self._path.chmod(0o600)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=60)
        try:
            with db:
                yield db
        finally:
            db.close()

    def hash(self, *parts: str) -> str:
        """Keyed hash (HMAC-SHA256) of parts; for comparing identifiers, never for a release."""
        message = "\x1f".join(parts).encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def key(self, kind: Kind, site_code: str, *identifier: str) -> str:
        """The key of one identifier of a site; made at first sight, the same ever after."""
        return self.keys(kind, site_code, [identifier])[0]

    def keys(self, kind: Kind, site_code: str, identifiers: Iterable[tuple[str, ...]]) -> list[str]:
        """`key` for many identifiers in one transaction, in order."""
        lookups = [self.hash(kind, site_code, *identifier) for identifier in identifiers]
        with self._connect() as db:
            db.execute("begin immediate")
            for lookup in dict.fromkeys(lookups):
                db.execute(
                    "insert or ignore into pseudonym values (?, ?, ?, ?)",
                    (kind, lookup, site_code, f"{PREFIX[kind]}_{secrets.token_hex(8)}"),
                )
            found = {
                lookup: db.execute(
                    "select key from pseudonym where kind = ? and lookup = ?", (kind, lookup)
                ).fetchone()[0]
                for lookup in dict.fromkeys(lookups)
            }
        return [found[lookup] for lookup in lookups]

    def keys_in_project(self, project: str, keys: Iterable[str]) -> frozenset[str]:
        """A project's own keys of these keys of the network, as far as it has them."""
        wanted = set(keys)
        with self._connect() as db:
            rows = db.execute("select key, project_key from project_pseudonym where project = ?", (project,))
            return frozenset(project_key for key, project_key in rows if key in wanted)

    def project_keys(
        self, project: str, wanted: Mapping[str, Iterable[str]], most_days: int
    ) -> list[tuple[str, str, str, int | None]]:
        """(project, key, the project's own key, days) for every key wanted; made at first sight, the same ever after.

        Parameters
        ----------
        wanted
            Kind (`subject`, `session`, `series`, `site`) -> keys of the network.
        most_days
            A subject's dates move back by 1 to this many days, drawn once per project.
        """
        prefixes = PREFIX | {"site": "sit"}
        with self._connect() as db:
            db.execute("begin immediate")
            db.execute("create temp table asked (key text primary key)")
            for kind, keys in wanted.items():
                ordered = sorted(keys)
                db.executemany("insert or ignore into asked values (?)", [(key,) for key in ordered])
                known = {
                    row[0] for row in db.execute("select key from project_pseudonym where project = ?", (project,))
                }
                db.executemany(
                    "insert into project_pseudonym values (?, ?, ?, ?)",
                    [
                        (
                            project,
                            key,
                            f"{prefixes[kind]}_{secrets.token_hex(8)}",
                            1 + secrets.randbelow(most_days) if kind == "subject" else None,
                        )
                        for key in ordered
                        if key not in known
                    ],
                )
            rows = db.execute(
                "select project, p.key, project_key, shift_days from project_pseudonym p join asked using (key)"
                " where project = ?",
                (project,),
            ).fetchall()
            db.execute("drop table asked")
        return rows

    def note_identity(self, site_code: str, identities: Iterable[tuple[str, str]]) -> None:
        """Remember (identity hash, subject key) pairs, to find one person under two keys (rule R18).

        What an earlier delivery said of a subject is forgotten: a corrected name no longer makes two people one.
        """
        noted = [(identity, subject, site_code) for identity, subject in identities]
        with self._connect() as db:
            db.executemany("delete from identity where subject_key = ?", [(subject,) for _, subject, _ in noted])
            db.executemany("insert or ignore into identity values (?, ?, ?)", noted)

    def same_person(self) -> list[tuple[str, str, str]]:
        """(identity hash, subject key, site code) of every identity that more than one subject key has."""
        with self._connect() as db:
            return db.execute(
                "select identity_hash, subject_key, site_code from identity where identity_hash in ("
                " select identity_hash from identity group by 1 having count(distinct subject_key) > 1)"
                " order by 1, 3, 2"
            ).fetchall()

    def lookup_table(self) -> list[tuple[str, str, str, str]]:
        """(kind, lookup, site code, key): by its lookups two homes with one secret can be compared row by row."""
        with self._connect() as db:
            return db.execute("select kind, lookup, site_code, key from pseudonym order by 1, 2").fetchall()
