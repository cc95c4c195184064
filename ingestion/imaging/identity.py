"""Who a header says it is about, and finding those words again.

Here: which words of a header name a person or place, and searching text and bytes for them. Not here: what happens to a
tag that holds one (`deidentify`). Words live in memory while one series is worked on; they are never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pydicom
from pydicom.multival import MultiValue

from ingestion.imaging.settings import load

SHORT = 5
"""Words of fewer characters are only compared as whole values: they occur by chance in any header."""

_PERSON = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "ResponsiblePerson",
)  # fmt: skip
_STAFF = (
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician",
)  # fmt: skip
_PLACE = ("InstitutionName", "InstitutionAddress", "AccessionNumber")
"""Only searched for as a whole: `Health` or `Hospital` alone identify nobody."""
_BLANK = frozenset({"", "none", "unknown", "anonymous", "anonymized"})


def texts_of(ds: pydicom.Dataset, keywords: Iterable[str]) -> list[str]:
    """The text values of some elements of a data set, multi-valued ones split."""
    found: list[str] = []
    for keyword in keywords:
        value = ds.get(keyword)
        if value is None:
            continue
        parts = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        found += [str(part).strip() for part in parts]
    return [text for text in found if text]


def _forms(text: str, *, in_parts: bool) -> set[str]:
    """A value and the ways in which it is written elsewhere: parts of a name, parts in both orders, dates with marks."""
    whole = text.strip().lower()
    forms = {whole}
    if not in_parts:
        return forms
    parts = [part for part in re.split(r"[\^=\s,]+", whole) if part]
    forms |= set(parts)
    if len(parts) > 1:
        for order in (parts, parts[::-1]):
            forms |= {mark.join(order) for mark in ("", " ", "^", "_", "-", ".", ", ")}
    if re.fullmatch(r"(1[89]|20)\d{6}", whole):
        year, month, day = whole[:4], whole[4:6], whole[6:]
        for mark in "-./":
            forms |= {mark.join((year, month, day)), mark.join((day, month, year)), mark.join((month, day, year))}
    return forms


@dataclass(frozen=True)
class Words:
    """Lower-case words to search for."""

    whole: frozenset[str]
    """Compared with whole values only."""
    anywhere: frozenset[str]
    """Searched for within texts and bytes."""

    @classmethod
    def of(cls, values: Iterable[str], *, in_parts: bool = True) -> Words:
        technical = set(load("deid_policy.yaml")["technical_words"])
        forms: set[str] = set()
        for value in values:
            forms |= _forms(value, in_parts=in_parts)
        forms -= _BLANK | technical
        # A form made only of technical words ("test phantom") is technical too.
        forms = {form for form in forms if set(re.split(r"[^a-z0-9]+", form)) - technical - {""}}
        long = {form for form in forms if len(form) >= SHORT}
        return cls(frozenset(forms - long), frozenset(long))

    def __or__(self, other: Words) -> Words:
        return Words(self.whole | other.whole, self.anywhere | other.anywhere)


class Search:
    """Finds words in texts and bytes, case-blind. Made once per series."""

    def __init__(self, words: Words) -> None:
        self._whole = words.whole
        forms = {
            form
            for word in words.anywhere
            for spelling in (word, word.upper())  # `bytes.lower` knows no letters with accents
            for form in (
                spelling.encode("utf-8").lower(),
                spelling.encode("utf-16-le").lower(),
                spelling.encode("latin-1", "ignore").lower(),
            )
            if len(form) >= SHORT
        }
        # A word that contains another one adds nothing to finding, but must be blanked first.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def _places(self, data: bytes) -> list[tuple[int, int]]:
        lowered = data.lower()
        return [
            (match.start(), match.end())
            for form in self._forms
            if form in lowered  # a plain search first: it is many times faster than the expression
            for match in _expression(form).finditer(lowered)
        ]

    def in_container(self, data: bytes) -> bool:
        """Whether bytes of any length hold a word; short ones are not looked for."""
        return bool(self._places(data))

    def in_bytes(self, data: bytes) -> bool:
        """Whether a text or binary value holds a word, or is one of the short ones."""
        if len(data) <= 64 and data.decode("latin-1").strip(" \0").lower() in self._whole:
            return True
        return self.in_container(data)

    def in_text(self, text: str) -> bool:
        return self.in_bytes(text.encode("utf-8", "replace"))

    def blank(self, data: bytes) -> bytes:
        """Bytes of the same length with each word overwritten."""
        cleaned = bytearray(data)
        for begin, end in self._places(data):
            cleaned[begin:end] = b"x" * (end - begin)
        return bytes(cleaned)


@cache
def _expression(form: bytes) -> re.Pattern[bytes]:
    """A word; digits alone must not be part of a longer number or of a decimal."""
    if form.isdigit():
        return re.compile(rb"(?<![0-9.])" + re.escape(form) + rb"(?![0-9])")
    return re.compile(re.escape(form))


@dataclass(frozen=True)
class Identity:
    """The words of one series."""

    person: Words
    everything: Words

    @classmethod
    def of(cls, datasets: Iterable[pydicom.Dataset]) -> Identity:
        persons: set[str] = set()
        staff: set[str] = set()
        places: set[str] = set()
        for ds in datasets:
            persons |= set(texts_of(ds, _PERSON))
            staff |= set(texts_of(ds, _STAFF))
            places |= set(texts_of(ds, _PLACE))
        person = Words.of(persons)
        return cls(person, person | Words.of(staff) | Words.of(places, in_parts=False))


IDENTIFYING = _PERSON + _STAFF + _PLACE
"""Keywords whose values are the words."""
