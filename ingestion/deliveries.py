"""Finding deliveries: what lies in a site's landing folder, whether it is complete, and whether it was received.

Here: walking a delivery without following links, content hashes with their cache, manifests, identity. Not here:
opening the files (`ingestion.receive`). Nothing in `landing/` is ever changed.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from ingestion.display import display_name
from warehouse.home import Home, Network
from warehouse.lake import part_path, sha256_file, sha256_json, write_json
from warehouse.pseudonyms import Pseudonyms

__all__ = [
    "COMPLETE_MARKER",
    "Delivery",
    "Entry",
    "display_name",
    "find_deliveries",
    "list_entries",
    "loose_files",
    "superseded",
]

LOGGER = logging.getLogger(__name__)

COMPLETE_MARKER = "_COMPLETE"


@dataclass(frozen=True)
class Delivery:
    """One folder below a site's landing folder.

    `manifest_sha256` and `delivery_key` are known once it is complete: a half-copied delivery is not read at all.
    """

    site_code: str
    folder: Path
    is_complete: bool
    seconds_left: float
    """Until it counts as complete if nothing changes; 0 when it is."""
    manifest_sha256: str | None
    delivery_key: str | None
    is_received: bool


@dataclass(frozen=True)
class Entry:
    """One thing that arrived: a regular file, or something that is refused as it stands (`reason_code`)."""

    name: PurePosixPath
    path: Path
    bytes_count: int
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    reason_code: str | None = None
    reason: str | None = None
    sha256: str | None = None


def find_deliveries(home: Home, network: Network, site_code: str) -> list[Delivery]:
    """The deliveries of a site in order of their folder names.

    Content is hashed only when a file's size, times or inode changed since the last look. A folder whose content
    changed after it was received is a new delivery with a new key; one that was changed back counts as not received, so
    that receiving it says which content holds (see `superseded`).
    """
    network.site(site_code)
    pseudonyms = Pseudonyms(home)
    latest = {receipt.folder_hash: receipt.delivery_key for receipt in receipts(home, site_code)}
    return [_look(home, network, pseudonyms, site_code, folder, latest) for folder in _folders(home, site_code)]


def delivery_at(home: Home, network: Network, site_code: str, folder: Path) -> Delivery:
    """A folder anywhere on disk as a delivery of the site: how a site checks what it has not sent yet."""
    return _look(home, network, Pseudonyms(home), site_code, folder, {})


@dataclass(frozen=True)
class Receipt:
    """That a folder was received with a content, beside the delivery's immutable manifest."""

    delivery_key: str
    folder_hash: str
    """Keyed hash of the folder's name: the same for every content that it had."""
    received_datetime: str
    """ISO 8601, UTC; renewed when a folder is changed back to content that was received before."""
    status: str


def receipt_path(home: Home, site_code: str, delivery_key: str) -> Path:
    return home.lake / "deliveries" / site_code / f"{delivery_key}.receipt.json"


def write_receipt(home: Home, site_code: str, receipt: Receipt) -> None:
    write_json(receipt_path(home, site_code, receipt.delivery_key), asdict(receipt))


def receipts(home: Home, site_code: str) -> list[Receipt]:
    """Receipts of a site, oldest first. One whose delivery was not received to its end is left out."""
    found = [
        Receipt(**json.loads(path.read_text(encoding="utf-8")))
        for path in (home.lake / "deliveries" / site_code).glob("[!.]*.receipt.json")
    ]
    done = [r for r in found if part_path(home, "raw_lake__delivery", site_code, r.delivery_key).exists()]
    return sorted(done, key=lambda receipt: (receipt.received_datetime, receipt.delivery_key))


def superseded(home: Home, site_code: str) -> dict[str, str]:
    """New delivery -> the delivery it replaces, where a landing folder was changed after it was received.

    Of several changes each replaces the one before it. An unreadable delivery replaces nothing: what was sent before
    stays in use.
    """
    replaced: dict[str, str] = {}
    last: dict[str, str] = {}
    for receipt in receipts(home, site_code):
        if receipt.status != "read":
            continue
        if receipt.folder_hash in last:
            replaced[receipt.delivery_key] = last[receipt.folder_hash]
        last[receipt.folder_hash] = receipt.delivery_key
    return replaced


def folder_hash(pseudonyms: Pseudonyms, site_code: str, folder: Path) -> str:
    return pseudonyms.hash("folder", site_code, folder.name)


def loose_files(home: Home, site_code: str) -> int:
    """How many things lie directly in a site's landing folder, where they belong to no delivery and are not read."""
    try:
        with os.scandir(home.landing / site_code) as found:
            return sum(not _is_delivery(item) for item in found)
    except OSError:
        return 0


def _is_delivery(item: os.DirEntry[str]) -> bool:
    # Copying programs use hidden folders for what is still on its way.
    return item.is_dir(follow_symlinks=False) and not item.name.startswith(".")


def _folders(home: Home, site_code: str) -> list[Path]:
    try:
        with os.scandir(home.landing / site_code) as found:
            return sorted((Path(item.path) for item in found if _is_delivery(item)), key=lambda path: path.name)
    except FileNotFoundError:
        return []


def _look(
    home: Home, network: Network, pseudonyms: Pseudonyms, site_code: str, folder: Path, latest: dict[str, str]
) -> Delivery:
    entries, newest = _walk(folder)
    seconds_left = 0.0
    if not any(entry.name == PurePosixPath(COMPLETE_MARKER) for entry in entries):
        seconds_left = max(0.0, network.quiet_seconds - (time.time() - newest))
    if seconds_left > 0:
        return Delivery(site_code, folder, False, seconds_left, None, None, False)
    hashed = _hash(home, pseudonyms, site_code, folder, entries)
    if hashed is None:
        return Delivery(site_code, folder, False, max(network.quiet_seconds, 1.0), None, None, False)
    manifest = manifest_sha256(hashed)
    key = pseudonyms.key("delivery", site_code, folder.name, manifest)
    is_received = latest.get(folder_hash(pseudonyms, site_code, folder)) == key
    return Delivery(site_code, folder, True, 0.0, manifest, key, is_received)


def list_entries(home: Home, pseudonyms: Pseudonyms, site_code: str, folder: Path) -> list[Entry] | None:
    """Everything in a delivery with its content hash, in path order; None when it changed while it was read."""
    return _hash(home, pseudonyms, site_code, folder, _walk(folder)[0])


def manifest_sha256(entries: list[Entry]) -> str:
    """The identity of a delivery's content. The marker is left out: adding it later changes nothing that was sent."""
    return sha256_json(
        [
            [entry.name.as_posix(), entry.bytes_count, entry.sha256 or entry.reason_code]
            for entry in entries
            if entry.name != PurePosixPath(COMPLETE_MARKER)
        ]
    )


def _walk(folder: Path) -> tuple[list[Entry], float]:
    """Everything below a folder in path order, and the newest time of change (seconds since the epoch)."""
    entries: list[Entry] = []
    times: list[float] = []
    for entry, changed in _descend(folder, PurePosixPath()):
        times.append(changed)
        if entry is not None:
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry.name.as_posix()), max(times, default=0.0)


def _changed(status: os.stat_result) -> float:
    """The later of content and inode change; a content time in the future is a wrong clock and says nothing."""
    if status.st_mtime > time.time():
        return status.st_ctime
    return max(status.st_mtime, status.st_ctime)


def _descend(folder: Path, name: PurePosixPath) -> Iterator[tuple[Entry | None, float]]:
    try:
        yield None, _changed(folder.lstat())
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except FileNotFoundError:
        return  # taken away while we looked
    except OSError:
        reason = "The folder cannot be opened; check its permissions and send it again."
        yield Entry(name, folder, 0, reason_code="unreadable_folder", reason=reason), 0.0
        return
    for item in items:
        path, below = Path(item.path), name / item.name
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _descend(path, below)
        elif stat.S_ISREG(status.st_mode):
            entry = Entry(below, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            yield entry, _changed(status)
        else:
            reason = "Links and devices are not followed; send the file itself."
            entry = Entry(below, path, 0, reason_code="not_a_regular_file", reason=reason)
            yield entry, _changed(status)


def _hash(home: Home, pseudonyms: Pseudonyms, site_code: str, folder: Path, entries: list[Entry]) -> list[Entry] | None:
    """Entries with their content hashes; None when a file changed while it was read."""
    cache = home.cache / "hashes" / f"{site_code}-{pseudonyms.hash('hashes', folder.name)[:32]}.json"
    known = _read_cache(cache)
    now: dict[str, list[int | str]] = {}
    hashed = []
    for entry in entries:
        if entry.reason_code is not None:
            hashed.append(entry)
            continue
        facts: list[int | str] = [entry.bytes_count, entry.mtime_ns, entry.ctime_ns, entry.inode]
        label = pseudonyms.hash("path", entry.name.as_posix())[:32]
        found = known.get(label)
        if found is not None and found[:4] == facts and os.access(entry.path, os.R_OK):
            digest = str(found[4])
        else:
            try:
                digest = sha256_file(entry.path)
                after = entry.path.lstat()
            except FileNotFoundError:
                return None
            except OSError:
                reason = "The file cannot be opened; check its permissions and send it again."
                hashed.append(replace(entry, reason_code="unreadable_file", reason=reason))
                continue
            if [after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino] != facts:
                return None
        now[label] = [*facts, digest]
        hashed.append(replace(entry, sha256=digest))
    if now != known:
        write_json(cache, now)
    return hashed


def _read_cache(path: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
