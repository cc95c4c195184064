"""A fast look at the top level of plain DICOM headers.

Here: finding and decoding the wanted elements of single-frame, little-endian files without pydicom's objects: an
index reads millions of them. Not here: what they mean (`index`), or any other kind of file, which pydicom reads.
"""

from __future__ import annotations

import mmap
import struct
from functools import cache
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONG = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"})
_SHORT = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE0
_CHARSETS = {"": "latin-1", "ISO_IR 6": "latin-1", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
_DEPTH = 16
_EXPLICIT_HEAD = struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<I").unpack_from
_TAG = struct.Struct("<HH").unpack_from


class NotPlainError(Exception):
    """This file needs pydicom."""


@cache
def _tag(keyword: str) -> int:
    return int(Tag(keyword))


@cache
def _standard_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _element(data: mmap.mmap, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR, where the value begins, its length) of the element at a place."""
    group, element, vr, short = _EXPLICIT_HEAD(data, at)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, b"", at + 8, _LENGTH(data, at + 4)[0]
    if vr in _SHORT:
        return tag, vr, at + 8, short
    if vr in _LONG:
        return tag, vr, at + 12, _LENGTH(data, at + 8)[0]
    raise NotPlainError


def _after_sequence(data: mmap.mmap, at: int, implicit: bool, depth: int = 0) -> int:
    """Where a sequence of undefined length, whose items begin at a place, ends."""
    if depth > _DEPTH:
        raise NotPlainError
    while True:
        tag, _, begin, length = _element(data, at, True)
        if tag == _SEQUENCE_END:
            return begin
        if tag != _ITEM:
            raise NotPlainError
        if length != _UNDEFINED:
            at = begin + length
            continue
        at = begin
        while True:
            tag, vr, begin, length = _element(data, at, implicit)
            if tag == _ITEM_END:
                at = begin
                break
            inner = implicit or vr == b"UN"
            at = _after_sequence(data, begin, inner, depth + 1) if length == _UNDEFINED else begin + length


class Header:
    """Wanted elements of one file, read like a pydicom data set: `get` by keyword, `private` by creator."""

    def __init__(self, data: mmap.mmap, at: int, last_group: int, implicit: bool, wanted: frozenset[int]) -> None:
        self._found: dict[int, tuple[str, bytes]] = {}
        self._charset = "latin-1"
        end = len(data)
        while at < end:
            # Looked at alone first: after the meta header the transfer syntax may change.
            if _TAG(data, at)[0] > last_group:
                break
            tag, vr, begin, length = _element(data, at, implicit)
            if length == _UNDEFINED:
                at = _after_sequence(data, begin, implicit or vr == b"UN")
                if tag in wanted:
                    self._found[tag] = ("SQ", b"\0")
                continue
            at = begin + length
            if tag in wanted:
                kind = vr.decode() if vr else _standard_vr(tag)
                self._found[tag] = (kind, bytes(data[begin:at]))
        self.end = at
        self.file_meta = self

    @classmethod
    def read(cls, handle: BinaryIO, wanted: frozenset[int]) -> Header:
        """Read up to the pixels and leave the handle there.

        Raises
        ------
        NotPlainError
            The file has no preamble, is big-endian, deflated, enhanced, in a rare character set, or damaged.
        """
        try:
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data[128:132] != b"DICM":
                    raise NotPlainError
                meta = cls(data, 132, 0x0002, False, frozenset({0x00020002, 0x00020010}))
                syntax = meta.get("TransferSyntaxUID") or ""
                if not syntax or syntax in (_BIG_ENDIAN, _DEFLATED):
                    raise NotPlainError
                header = cls(data, meta.end, _PIXELS - 1, syntax == IMPLICIT, wanted)
        except (struct.error, ValueError, IndexError):
            raise NotPlainError from None
        header.file_meta = meta
        header._charset = _CHARSETS.get(str(header.get("SpecificCharacterSet") or ""), "")
        if not header._charset:
            raise NotPlainError
        handle.seek(header.end)
        return header

    def __contains__(self, tag: int) -> bool:
        return tag in self._found

    def get(self, keyword: str, default: Any = None) -> Any:
        """The decoded value of an element; None when it is absent or empty."""
        found = self._found.get(_tag(keyword))
        return default if found is None else self._value(*found)

    def private(self, group: int, creator: str, offset: int) -> Any:
        """The value of a private element under its creator. Raises KeyError."""
        for block in range(0x10, 0x20):
            found = self._found.get((group << 16) | block)
            if found is not None and found[1].decode("latin-1").strip(" \0") == creator:
                return self._value(*self._found[(group << 16) | (block << 8) | offset])
        raise KeyError(offset)

    def _value(self, kind: str, raw: bytes) -> Any:
        if kind in _NUMBERS:
            count = len(raw) // struct.calcsize(_NUMBERS[kind])
            values: list[Any] = list(struct.unpack(f"<{count}{_NUMBERS[kind]}", raw))
        elif kind == "SQ":
            return list(raw) or None
        elif kind in ("UN", "OB", "OW"):
            return raw
        else:
            text = raw.decode(self._charset or "latin-1", "replace")
            if kind in ("LT", "ST", "UT"):
                return text.rstrip(" \0")
            values = [part.strip(" \0") for part in text.split("\\")]
        return None if not values or values == [""] else values[0] if len(values) == 1 else values
