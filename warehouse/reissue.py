"""Re-issue: the same release without some subjects, under a new version; the old files are destroyed.

Here: stripping a release's files. Not here: who is gone (`warehouse.consent`), how long releases are kept
(`warehouse.retention`). Stripped and not built anew: an old release follows from a lake, code and dictionary that are
no longer there. Aggregate tables stay as they were published. They tell of no person (small counts are blank, others
are rounded), and a new count beside an old one would tell by the difference who left.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from warehouse import gate, lake, manifest, releases
from warehouse.errors import ReleaseError
from warehouse.home import Home
from warehouse.policy import in_force, load_policy
from warehouse.pseudonyms import Pseudonyms

PERSONAL = ("subject_key", "session_key", "series_key", "entity_key")
"""Columns by which a row belongs to a subject."""
STATE = {"is_shared": "false", "is_image_shared": "false", "consent_status": "'withdrawn'"}
"""What the steward's file says of a subject who withdrew and is kept there."""
ASKED = ("k_asked", "l_asked")
"""What of a file's anonymity is carried over; all else is counted anew, as the old figures count who left."""


@dataclass(frozen=True)
class Reissued:
    """One release that was issued again."""

    old: str
    new: str


def affected(home: Home, subjects: frozenset[str], *, everywhere: bool) -> list[str]:
    """Versions of the kept releases that still tell of one of these subjects, in the order they were built."""
    return [
        version
        for version in releases.by_build(home)
        if releases.holds_subjects(home.releases / version, subjects, shared_only=not everywhere)
    ]


def reissue(
    home: Home,
    subjects: frozenset[str],
    *,
    reason: str,
    now: datetime,
    everywhere: bool = False,
    by: str | None = None,
) -> list[Reissued]:
    """Issue each kept release that tells of these subjects again without them, and destroy the old one.

    It can be killed at any point and called again: a new version is complete or absent, and what was left half done is
    found by the `supersedes` of the new manifest.

    Parameters
    ----------
    subjects
        Subject keys of the steward's grain.
    everywhere
        True is erasure: the steward's file loses them too. False keeps them there, marked as withdrawn.
    now
        Time of the decision, with a time zone.

    Raises
    ------
    ReleaseError
        There is no reason, or a key was still found after stripping; the release at hand stays as it was then.
    """
    if not reason.strip():
        raise ReleaseError("A re-issue needs a reason; give one with: --reason TEXT")
    with releases.changing(home):
        releases.clean(home)
        done = _finish(home)
        if not subjects:
            return done
        for version in affected(home, subjects, everywhere=everywhere):
            new = _strip_release(home, version, subjects, everywhere=everywhere, reason=reason, now=now, by=by)
            done += _finish(home, only=new)
        return done


def _finish(home: Home, only: str | None = None) -> list[Reissued]:
    """Let new versions take the place of those they supersede, where these are still there."""
    done = []
    superseded = {new: manifest.read(home.releases / new).get("supersedes") for new in releases.by_build(home)}
    for new, old in superseded.items():
        if old is None or only not in (None, new):
            continue
        is_current = releases.current_version(home) == old
        if is_current:
            lake.point(home.current_release, new)
        if is_current or (home.releases / old).exists():
            releases.destroy(home.releases / old)
            done.append(Reissued(old, new))
    return done


def _strip_release(
    home: Home,
    old: str,
    subjects: frozenset[str],
    *,
    everywhere: bool,
    reason: str,
    now: datetime,
    by: str | None,
) -> str:
    source = home.releases / old
    content = manifest.read(source)
    keys = subjects | _images_of(source / "steward.duckdb", subjects)
    version, folder = releases.open_build_folder(home, now)
    pseudonyms = Pseudonyms(home)
    policy = in_force(load_policy(), home.network())
    kept = [name for name in content["files"] if name.endswith(".duckdb")]
    counts: dict[str, dict[str, int]] = {}
    anonymity: dict[str, Any] = {}
    problems: list[str] = []
    for name in kept:
        is_marked = name == "steward.duckdb" and not everywhere
        # A project's file has keys of its own.
        is_project = name.startswith("controlled/")
        told = pseudonyms.keys_in_project(Path(name).stem, keys) if is_project else keys
        (folder / name).parent.mkdir(exist_ok=True)
        counts[name] = _strip_file(source / name, folder / name, told, version, is_marked=is_marked)
        if asked := {k: v for k, v in content.get("anonymity", {}).get(name, {}).items() if k in ASKED}:
            small = gate.in_small_classes(name, folder / name, policy, asked["k_asked"], asked["l_asked"])
            if small:
                # Those who were hidden among k with whoever left, and are too few now, leave this file with them.
                (folder / name).unlink()
                counts[name] = _strip_file(source / name, folder / name, told | small, version, is_marked=False)
            reached = gate.reached_anonymity(name, folder / name, policy)
            anonymity[name] = asked | reached | {"subjects": counts[name]["dim_subject"]}
        if not is_marked:
            problems += gate.forbidden_keys(name, folder / name, set(told | keys))
    if problems:
        shutil.rmtree(folder, ignore_errors=True)
        raise ReleaseError(f"Release {old} is not issued again, it would still tell of them: {'; '.join(problems)}")
    new_content: dict[str, Any] = content | {
        "version": version,
        "supersedes": old,
        "reason": reason,
        "reissued_datetime": now.isoformat(),
        "row_counts": counts,
        "anonymity": anonymity,
        "files": {
            name: {"sha256": lake.sha256_file(folder / name), "bytes_count": (folder / name).stat().st_size}
            for name in kept
        },
    }
    releases.decide(
        home, "reissue", version, by=by, reason=reason, supersedes=old, subjects_count=len(subjects), erased=everywhere
    )
    releases.seal(home, folder, new_content)
    return version


def _images_of(steward: Path, subjects: frozenset[str]) -> frozenset[str]:
    """Keys of the subjects' sessions and series."""
    with duckdb.connect(str(steward), read_only=True) as db:
        rows = db.execute(
            "select unnest([session_key, series_key]) from fct_mri_series where subject_key in (select unnest($1))"
            " union select session_key from fct_mri_session where subject_key in (select unnest($1))"
            " union select series_key from fct_verdict where subject_key in (select unnest($1))",
            [sorted(subjects)],
        ).fetchall()
    return frozenset(row[0] for row in rows if row[0])


def _strip_file(source: Path, target: Path, keys: frozenset[str], version: str, *, is_marked: bool) -> dict[str, int]:
    """Copy a tier's file into a new one without these keys' rows, or with their rows marked. Returns row counts.

    A new file and not a deletion: DuckDB keeps deleted rows in the file until it is written anew.
    """
    counts: dict[str, int] = {}
    path = str(source).replace("'", "''")
    with duckdb.connect(str(target)) as db:
        db.execute(f"attach '{path}' as old (read_only)")
        db.execute("create temp table gone as select unnest($1) as key", [sorted(keys)])
        tables = db.execute(
            "select table_name, list(column_name order by column_index) from duckdb_columns()"
            " where database_name = 'old' group by 1 order by 1"
        ).fetchall()
        for table, columns in tables:
            personal = [column for column in PERSONAL if column in columns]
            is_gone = " or ".join(f"coalesce({c} in (select key from gone), false)" for c in personal) or "false"
            values = {"release_version": f"'{version}'"}
            if is_marked:
                values |= {name: f"case when {is_gone} then {value} else {name} end" for name, value in STATE.items()}
            replaced = ", ".join(f"{value} as {name}" for name, value in values.items() if name in columns)
            chosen = f"* replace ({replaced})" if replaced else "*"
            where = "" if is_marked else f" where not ({is_gone})"
            db.execute(f'create table main."{table}" as select {chosen} from old.main."{table}"{where}')
            row = db.execute(f'select count(*) from main."{table}"').fetchone()
            counts[table] = int(row[0]) if row else 0
    return counts
