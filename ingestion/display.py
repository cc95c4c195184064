"""Names as they may be shown: everything that could identify a person is masked.

Here: the masking of file and folder names; the words that may stand are in `display_words.yaml`. Not here: which files
there are (`ingestion.deliveries`). Sites name folders after patients; what is not known to be harmless is masked.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path, PurePath

import yaml

MASK = "*"
FIRST_YEAR = 2020
"""A full date of an earlier year may be a date of birth; a later one is that of a delivery or a scan."""

_RUN = re.compile(r"[^\W_]+", re.UNICODE)
_PIECES = re.compile(r"\d+|[^\W\d_]+", re.UNICODE)
_SEPARATOR = re.compile(r"[^\w ./()*-]", re.UNICODE)
_DATE = re.compile(r"(?<!\d)(\d{1,4})([-._ /])(\d{1,2})\2(\d{1,4})(?!\d)")
_PERSON_NUMBER = re.compile(r"(?<![^\W_])(sub|subj|subject|patient|pat|pid|mrn|id)([-_. #]*)\d+(?!\d)", re.IGNORECASE)


@lru_cache(maxsize=1)
def allowed_words() -> frozenset[str]:
    """The allow-list, in lower case."""
    raw = yaml.safe_load((Path(__file__).parent / "display_words.yaml").read_text(encoding="utf-8"))
    return frozenset(word for words in raw.values() for word in words.split())


def _is_harmless(token: str) -> bool:
    return token.casefold() in allowed_words() or (token.isascii() and token.isdigit() and len(token) <= 4)


def _shown(match: re.Match[str]) -> str:
    run = match.group()
    if _is_harmless(run):
        return run
    pieces: list[str] = _PIECES.findall(run)
    digits = sum(len(piece) for piece in pieces if piece.isdigit())
    # `visits2026` is two harmless pieces; more than four digits in one run may be a number of a person.
    if digits <= 4 and all(_is_harmless(piece) for piece in pieces):
        return run
    return MASK


def _date_shown(match: re.Match[str]) -> str:
    years = [int(part) for part in match.group(1, 4) if len(part) == 4]
    return match.group() if any(year >= FIRST_YEAR for year in years) else MASK


def display_name(path: PurePath | str) -> str:
    """A path or name that identifies nobody.

    Every token that is neither a technical word of the allow-list nor a number of at most four digits becomes `*`, and
    so does the number of a patient (`sub-0042`) and a date that may be one of birth. Separators stay, so that a site
    recognises the shape of its own names.
    """
    text = path.as_posix() if isinstance(path, PurePath) else path
    text = _PERSON_NUMBER.sub(rf"\1\2{MASK}", _DATE.sub(_date_shown, text))
    masked = _SEPARATOR.sub(MASK, _RUN.sub(_shown, text))
    return re.sub(r"\*{2,}", MASK, masked)
