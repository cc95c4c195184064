"""Who a header says it is about, and finding those words again.

Here: which words of a header name a person or place, and searching text and bytes for them. Not here: what happens to a
tag that holds one (`deidentify`). Words live in memory while one series is worked on; they are never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pydicom
from pydicom.multival import MultiValue

from ingestion.imaging.settings import load

SHORT = 5
"""Words of fewer characters are only compared as whole values: they occur by chance in any header."""

_PERSON = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "ResponsiblePerson",
)  # fmt: skip
_PLACE = (
    "InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingPhysician", "AccessionNumber",
)  # fmt: skip
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


def _forms(text: str) -> set[str]:
    """A value and the ways in which it is written elsewhere: parts of a name, parts in both orders, dates with marks."""
    whole = text.strip().lower()
    forms = {whole}
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
    def of(cls, values: Iterable[str]) -> Words:
        technical = set(load("deid_policy.yaml")["technical_words"])
        forms = set().union(*[_forms(value) for value in values]) - _BLANK - technical if values else set()
        # A form made only of technical words ("test phantom") is technical too.
        forms = {form for form in forms if set(re.split(r"[^a-z0-9]+", form)) - technical - {""}}
        long = {form for form in forms if len(form) >= SHORT}
        return cls(frozenset(forms - long), frozenset(long))

    def __or__(self, other: Words) -> Words:
        return Words(self.whole | other.whole, self.anywhere | other.anywhere)


class Search:
    """Finds words in texts and bytes, case-blind. Compiled once per series."""

    def __init__(self, words: Words) -> None:
        self._whole = words.whole
        self._bytes: re.Pattern[bytes] | None = None
        if words.anywhere:
            encoded = {
                form
                for word in words.anywhere
                for form in (word.encode("utf-8"), word.encode("utf-16-le"), word.encode("latin-1", "ignore"))
                if len(form) >= SHORT
            }
            longest_first = sorted(encoded, key=lambda form: (-len(form), form))
            # Digits alone must not be part of a longer number or of a decimal.
            parts = [
                rb"(?<![0-9.])" + re.escape(form) + rb"(?![0-9])" if form.isdigit() else re.escape(form)
                for form in longest_first
            ]
            self._bytes = re.compile(b"|".join(parts), re.IGNORECASE)

    def in_bytes(self, data: bytes) -> bool:
        """Whether a text or binary value holds a word, or is one of the short ones."""
        if self._bytes is not None and self._bytes.search(data):
            return True
        return len(data) <= 64 and data.decode("latin-1").strip(" \0").lower() in self._whole

    def in_container(self, data: bytes) -> bool:
        """Whether bytes of any length hold a word; short ones are not looked for."""
        return self._bytes is not None and self._bytes.search(data) is not None

    def in_text(self, text: str) -> bool:
        return self.in_bytes(text.encode("utf-8", "replace"))

    def blank(self, data: bytes) -> bytes:
        """Bytes of the same length with each word overwritten."""
        if self._bytes is None:
            return data
        return self._bytes.sub(lambda match: b"x" * len(match.group()), data)


@dataclass(frozen=True)
class Identity:
    """The words of one series."""

    person: Words
    everything: Words

    @classmethod
    def of(cls, datasets: Iterable[pydicom.Dataset]) -> Identity:
        persons: set[str] = set()
        places: set[str] = set()
        for ds in datasets:
            persons |= set(texts_of(ds, _PERSON))
            places |= set(texts_of(ds, _PLACE))
        person = Words.of(sorted(persons))
        return cls(person, person | Words.of(sorted(places)))


IDENTIFYING = _PERSON + _PLACE
"""Keywords whose values are the words."""
