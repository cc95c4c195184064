"""DICOM files without identity, for the converter to read, and the ledger of what was done to them.

Here: the PS3.15 basic profile (tables of dicom-anonymizer) applied at every depth, private tags by allow-list, UIDs
mapped to keyed ones, and an independent second look at the result. Not here: converting (`convert`). Pixel bytes are
written as they came. Everything that is unsure is removed, and what cannot be cleaned is refused.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
from dicomanonymizer import simpledicomanonymizer as profile
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from ingestion.imaging.identity import IDENTIFYING, Identity, Search
from ingestion.imaging.index import READ_ERRORS
from ingestion.imaging.settings import fingerprint, load
from warehouse.errors import RanvierError

METHOD = "1"
"""Raise it when the same file would be de-identified differently."""

Hash = Callable[..., str]
"""A keyed hash of parts, such as `Pseudonyms.hash`."""

_TEXT = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
"""Value representations that hold words a person typed, or anything at all."""
_PIXELS = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
_STANDARD_UIDS = "1.2.840.10008."


class DeidentificationFailed(RanvierError):
    """A file could not be made free of identity; its text names the reason, never a value."""


def _tag(text: str) -> int:
    return int(text.strip("()").replace(",", ""), 16)


@cache
def _actions() -> tuple[dict[int, str], list[tuple[int, int, str]]]:
    """What the profile does: by tag, and by (tag, mask) for repeating groups; the policy's changes included."""
    policy = load("deid_policy.yaml")
    exact: dict[int, str] = {}
    masked: list[tuple[int, int, str]] = []
    for tag, function in profile.initialize_actions(policy["edition"]).items():
        action = {
            profile.replace_UID: "uid",
            profile.delete_or_empty_or_replace_UID: "uid",
            profile.delete: "removed",
            profile.empty: "emptied",
            profile.delete_or_empty: "emptied",
        }.get(function, "replaced")
        if len(tag) == 4:
            masked.append(((tag[0] << 16) | tag[1], (tag[2] << 16) | tag[3], action))
        else:
            exact[(tag[0] << 16) | tag[1]] = action
    for row in policy["keep"]:
        exact.pop(_tag(row["tag"]), None)
    exact |= {_tag(text): "removed" for text in policy["remove"]}
    exact |= {_tag(text): "date_shifted" for text in policy["date_shifted"]}
    return exact, masked


@cache
def _action(tag: int) -> str | None:
    exact, masked = _actions()
    if tag in exact:
        return exact[tag]
    for value, mask, action in masked:
        if tag & mask == value & mask:
            return action
    return None


@cache
def _is_known(tag: int) -> bool:
    try:
        dictionary_VR(tag)
    except KeyError:
        return False
    return True


@cache
def _private() -> dict[tuple[int, str, int], bool]:
    """(group, creator, offset) of every private tag that is kept, with whether its value is scrubbed."""
    return {
        (int(row["group"], 16), row["creator"].lower(), int(offset, 16)): bool(row.get("scrub"))
        for row in load("deid_policy.yaml")["private"]
        for offset in row["elements"]
    }


def policy_version() -> str:
    """Identifies the policy and the method: part of the key of whatever was made with them."""
    return f"{METHOD}-{fingerprint('deid_policy.yaml')[:16]}"


def _value_bytes(element: RawDataElement | DataElement) -> bytes:
    value: Any = element.value
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "replace")


class Deidentifier:
    """Cleans the files of one series and keeps its ledger."""

    def __init__(self, identity: Identity, hash_of: Hash, site_code: str) -> None:
        self._person = Search(identity.person)
        self._all = Search(identity.everything)
        self._hash = hash_of
        self._site = site_code
        self._uids: dict[str, str] = {}
        self._before: dict[tuple[str, str], set[bytes]] = {}
        self._found: set[tuple[str, str]] = set()

    def uid(self, original: str) -> str:
        """The UID that stands for one of the site's, the same in every delivery. Standard UIDs stay."""
        if not original or original.startswith(_STANDARD_UIDS):
            return original
        if original not in self._uids:
            number = int(self._hash("uid", self._site, original)[:32], 16)
            self._uids[original] = f"2.25.{number}"
        return self._uids[original]

    def _note(self, tag: int, action: str, before: bytes) -> None:
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        value = before if len(before) <= 64 else hashlib.sha256(before).digest()
        self._before.setdefault((name, action), set()).add(value)

    def _remove(self, ds: Dataset, element: RawDataElement | DataElement, action: str = "removed") -> None:
        self._note(int(element.tag), action, _value_bytes(element))
        del ds[element.tag]

    def _find(self, element: RawDataElement | DataElement, action: str) -> None:
        if self._person.in_bytes(_value_bytes(element)):
            tag = int(element.tag)
            self._found.add((f"({tag >> 16:04X},{tag & 0xFFFF:04X})", action))

    def clean(self, ds: Dataset) -> None:
        """De-identify a data set in place, at every depth."""
        creators = {
            int(element.tag): _value_bytes(element).decode("latin-1").strip(" \0")
            for element in ds.elements()
            if element.tag.is_private and 0x10 <= element.tag.element <= 0xFF
        }
        blocks_used: set[int] = set()
        for element in list(ds.elements()):
            tag = int(element.tag)
            if tag in _PIXELS or tag in creators:
                continue
            if element.tag.is_private:
                self._clean_private(ds, element, creators, blocks_used)
            else:
                self._clean_standard(ds, element)
        for tag in creators.keys() - blocks_used:
            del ds[Tag(tag)]

    def _clean_private(
        self, ds: Dataset, element: RawDataElement | DataElement, creators: dict[int, str], used: set[int]
    ) -> None:
        tag = int(element.tag)
        block = (tag & 0xFFFF0000) | ((tag >> 8) & 0xFF)
        scrub = _private().get((tag >> 16, creators.get(block, "").lower(), tag & 0xFF))
        if scrub is None:
            self._find(element, "removed")
            self._remove(ds, element)
            return
        if element.VR in (None, "SQ", "UN") and ds[element.tag].VR == "SQ":
            used.add(block)
            for item in ds[element.tag].value:
                self.clean(item)
            return
        value = _value_bytes(element)
        if scrub and self._all.in_container(value):
            self._find(element, "scrubbed")
            self._note(tag, "scrubbed", value)
            whole = ds[element.tag]
            if isinstance(whole.value, bytes):
                whole.value = self._all.blank(whole.value)
                used.add(block)
            else:
                del ds[element.tag]
        elif not scrub and self._all.in_bytes(value):
            self._find(element, "removed")
            self._remove(ds, element)
        else:
            used.add(block)

    def _clean_standard(self, ds: Dataset, element: RawDataElement | DataElement) -> None:
        tag = int(element.tag)
        action = _action(tag)
        if action is None and not _is_known(tag):
            self._find(element, "removed")
            self._remove(ds, element)
            return
        kind = element.VR if element.VR not in (None, "UN") else ds[element.tag].VR
        if action is None:
            if kind == "SQ":
                for item in ds[element.tag].value:
                    self.clean(item)
            elif kind == "UI":
                self._map_uids(ds, element.tag, note=False)
            elif kind in _TEXT and self._all.in_bytes(_value_bytes(element)):
                self._find(element, "removed")
                self._remove(ds, element)
        elif action == "uid" and kind == "UI":
            self._map_uids(ds, element.tag, note=True)
        elif action == "date_shifted":
            self._note(tag, action, _value_bytes(element))
            whole = ds[element.tag]
            whole.value = load("deid_policy.yaml")["date_shifted_to"] + str(whole.value)[8:]
        else:
            if tag not in _identifying() and kind in _TEXT:
                self._find(element, action if action != "uid" else "removed")
            # Only the converter reads the result: a sequence is never worth emptying item by item.
            if action == "removed" or kind in ("SQ", "UN") or action == "uid":
                self._remove(ds, element)
            else:
                self._apply_profile(ds, element, action)

    def _apply_profile(self, ds: Dataset, element: RawDataElement | DataElement, action: str) -> None:
        tag = element.tag
        self._note(int(tag), action, _value_bytes(element))
        try:
            (profile.empty if action == "emptied" else profile.replace)(ds, (tag.group, tag.element))
        except NotImplementedError:
            del ds[tag]  # a value representation that the profile has no dummy for

    def _map_uids(self, ds: Dataset, tag: BaseTag, *, note: bool) -> None:
        element = ds[tag]
        values = [element.value] if isinstance(element.value, str) else list(element.value or [])
        mapped = [self.uid(str(value)) for value in values]
        if mapped != [str(value) for value in values]:
            if note:
                self._note(int(tag), "uid", _value_bytes(element))
            element.value = mapped[0] if len(mapped) == 1 else mapped

    def write(self, ds: Dataset, target: Path) -> None:
        """Clean a whole file and write it with a new preamble and file meta header, then look at it again.

        Raises
        ------
        DeidentificationFailed
            The written file still holds a word or a tag that it must not hold.
        """
        original = ds.file_meta
        self.clean(ds)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(str(ds.get("SOPClassUID") or original.get("MediaStorageSOPClassUID", "")))
        meta.MediaStorageSOPInstanceUID = UID(str(ds.get("SOPInstanceUID", "")) or self.uid(target.name))
        meta.TransferSyntaxUID = original.get("TransferSyntaxUID", UID("1.2.840.10008.1.2"))
        ds.file_meta = meta
        ds.preamble = b"\0" * 128
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.save_as(target, enforce_file_format=True)
        self._look_again(target)

    def _look_again(self, target: Path) -> None:
        """An own check of the written bytes that shares no code with the cleaning."""
        with target.open("rb") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(handle, stop_before_pixels=True)
            end = handle.tell()
            handle.seek(0)
            header = handle.read(end)
        if self._all.in_container(header):
            raise DeidentificationFailed("a name, number or date of the patient or institution is still in the header")
        allowed = {(group, creator) for group, creator, _ in _private()}
        for keyword in IDENTIFYING:
            value = str(ds.get(keyword) or "")
            if value not in ("", "ANONYMIZED", "00010101"):
                raise DeidentificationFailed("a tag that identifies the patient or institution still has a value")
        for element in ds.elements():
            if element.tag.is_private and 0x10 <= element.tag.element <= 0xFF:
                creator = _value_bytes(element).decode("latin-1").strip(" \0").lower()
                if (element.tag.group, creator) not in allowed:
                    raise DeidentificationFailed("a private block that is not known to be safe is still there")

    def ledger(self) -> dict[str, Any]:
        """What was done, without any value: tags, actions, keyed hashes of what was there before."""
        return {
            "profile": "DICOM PS3.15 Basic Application Level Confidentiality Profile",
            "edition": load("deid_policy.yaml")["edition"],
            "policy": policy_version(),
            "actions": [
                {
                    "tag": tag,
                    "action": action,
                    "values_count": len(values),
                    "before_hash": self._hash("deid", tag, *sorted(value.hex() for value in values)),
                }
                for (tag, action), values in sorted(self._before.items())
            ],
            "identifiers_found": [{"tag": tag, "action": action} for tag, action in sorted(self._found)],
        }


@cache
def _identifying() -> frozenset[int]:
    return frozenset(int(Tag(keyword)) for keyword in IDENTIFYING)


def _read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def deidentify(files: Sequence[Path], folder: Path, hash_of: Hash, site_code: str) -> tuple[dict[str, Any], Search]:
    """Write de-identified copies of a series' files into a folder, numbered in order.

    Parameters
    ----------
    folder
        Exists and is empty. Its files still hold times of day; it must be removed after conversion.
    hash_of
        A keyed hash: UIDs and the ledger's before-hashes come from it.

    Returns
    -------
    (ledger, search)
        `ledger` holds tags and keyed hashes, never a value; `search` finds the series' identifying words.

    Raises
    ------
    DeidentificationFailed
        A file cannot be read, cleaned or written, or is not clean afterwards.
    """
    try:
        identity = Identity.of(_header(path) for path in files)
        worker = Deidentifier(identity, hash_of, site_code)
        for number, path in enumerate(files, 1):
            worker.write(_read(path), folder / f"{number:06d}.dcm")
    except READ_ERRORS as error:
        # What pydicom says may quote the value: the kind of error is all that may be told.
        raise DeidentificationFailed(
            f"a header could not be cleaned ({type(error).__name__}), so the series is kept out"
        ) from None
    return worker.ledger(), Search(identity.everything)


def _header(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(IDENTIFYING))
