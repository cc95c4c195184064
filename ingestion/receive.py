"""Receiving a delivery: every file that arrived gets a fate, and what can be used gets into the lake.

Here: the order of steps, the accounting, and what is written last. Not here: how tables (`ingestion.registry`),
archives (`ingestion.archives`) and scans (`ingestion.imaging`) are read. Received = accepted + refused, or nothing is
written.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import polars as pl

from ingestion.archives import Unpacked, is_archive, unpack
from ingestion.deliveries import (
    COMPLETE_MARKER,
    Delivery,
    Entry,
    Receipt,
    folder_hash,
    list_entries,
    manifest_sha256,
    write_receipt,
)
from ingestion.display import display_name
from ingestion.profile import Profile, load_profile
from ingestion.registry import RegistryFile, RegistryResult, is_candidate, read_registry
from warehouse.errors import DeliveryError, HomeError, RanvierError
from warehouse.home import Home, Network
from warehouse.lake import part_path, read_table, sha256_file, write_json, write_part
from warehouse.pseudonyms import Pseudonyms
from warehouse.tables import LAKE_TABLES, schema_of
from warehouse.work import Mapper, Progress, serial, silent

LOGGER = logging.getLogger(__name__)

SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
NOT_USABLE = ("not_usable", "This is not a registry table, DICOM or NIfTI file; nothing needs to be done about it.")

_CHANGED = "The delivery changed while it was received; look for deliveries again in a moment"


@dataclass(frozen=True)
class _Arrived:
    """One file of the accounting: `path` is where its content lies, None when it cannot be read."""

    number: int
    display_name: str
    path: Path | None
    sha256: str | None
    bytes_count: int


@dataclass(frozen=True)
class _Fate:
    kind: str
    status: str
    reason_code: str | None = None
    reason: str | None = None
    series_key: str | None = None


def receive(
    home: Home, network: Network, delivery: Delivery, *, mapper: Mapper = serial, progress: Progress = silent
) -> None:
    """Take a complete delivery into the lake.

    When it was received before, only its receipt is renewed. It may be killed at any moment and started again:
    `raw_lake__delivery` is written last, and what an interrupted receipt left behind is cleared first. Bad content
    never raises: each file, row and series that cannot be used is refused with a reason, and a delivery of which
    nothing can be used gets the status `unreadable`.

    Raises
    ------
    DeliveryError
        The delivery is not complete, or changed after it was looked at; look again later.
    HomeError
        The site or its source profile is not usable, or the disk is full.
    """
    key = delivery.delivery_key
    if not delivery.is_complete or key is None:
        raise DeliveryError("The delivery is still being copied; receive it when it is complete")
    try:
        _receive(home, network, delivery, key, mapper, progress)
    except OSError as error:
        # The system's own text names the file, and sites name files after patients.
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeError("The disk is full; free some space and run again, nothing is lost") from None
        if error.errno == errno.ENOENT:
            raise DeliveryError(_CHANGED) from None
        what = os.strerror(error.errno) if error.errno else type(error).__name__
        raise HomeError(f"Receiving stopped on an error of the system ({what}); correct it and run again") from None


def _receive(home: Home, network: Network, delivery: Delivery, key: str, mapper: Mapper, progress: Progress) -> None:
    pseudonyms = Pseudonyms(home)
    if part_path(home, "raw_lake__delivery", delivery.site_code, key).exists():
        done = read_table(home, "raw_lake__delivery", delivery.site_code).filter(pl.col("delivery_key") == key)
        _write_receipt(home, pseudonyms, delivery, key, done.item(0, "status"), datetime.now(UTC))
        return
    profile = load_profile(network.site(delivery.site_code).profile, home)
    entries = list_entries(home, pseudonyms, delivery.site_code, delivery.folder)
    if entries is None or manifest_sha256(entries) != delivery.manifest_sha256:
        raise DeliveryError(_CHANGED)
    _clear(home, delivery.site_code, key)
    # A site is received by one process at a time, so whatever lies here was left by one that died.
    scratch = home.cache / "unpacked" / delivery.site_code
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        arrived, fates = _open(entries, scratch, progress)
        waiting = [file for file in arrived if file.number not in fates]
        tables = _tables(waiting, profile, pseudonyms, delivery.site_code, key, fates)
        waiting = [file for file in arrived if file.number not in fates]
        series = _images(home, waiting, delivery.site_code, key, pseudonyms, fates, mapper, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _check_accounting(arrived, fates, tables)
    _write(home, pseudonyms, delivery, key, entries, arrived, fates, tables, series)


def _write_receipt(
    home: Home, pseudonyms: Pseudonyms, delivery: Delivery, key: str, status: str, now: datetime
) -> None:
    folder = folder_hash(pseudonyms, delivery.site_code, delivery.folder)
    write_receipt(home, delivery.site_code, Receipt(key, folder, now.isoformat(), status))


def _clear(home: Home, site_code: str, delivery_key: str) -> None:
    """Remove what an interrupted receipt of this delivery wrote: with another profile it may not be written again."""
    for table in LAKE_TABLES.values():
        if table.grain == "delivery":
            part_path(home, table.name, site_code, delivery_key).unlink(missing_ok=True)


def _open(entries: list[Entry], scratch: Path, progress: Progress) -> tuple[list[_Arrived], dict[int, _Fate]]:
    """Number everything that arrived, archive members included, and decide what is decided by kind alone."""
    arrived: list[_Arrived] = []
    fates: dict[int, _Fate] = {}
    for done, entry in enumerate(entries):
        progress("opening files", done, len(entries))
        number = len(arrived) + 1
        shown = display_name(entry.name)
        arrived.append(_Arrived(number, shown, entry.path, entry.sha256, entry.bytes_count))
        if entry.reason_code is not None:
            fates[number] = _Fate("other", "refused", entry.reason_code, entry.reason)
        elif entry.name == PurePosixPath(COMPLETE_MARKER):
            fates[number] = _Fate("marker", "accepted")
        elif entry.name.name.casefold() in SYSTEM_FILES:
            fates[number] = _system_file()
        elif is_archive(entry.path):
            unpacked = unpack(entry.path, scratch / f"{number}-{entry.sha256}")
            status = "accepted" if unpacked.reason_code is None else "refused"
            fates[number] = _Fate("archive", status, unpacked.reason_code, unpacked.reason)
            _add_members(unpacked, shown, arrived, fates)
    progress("opening files", len(entries), len(entries))
    return arrived, fates


def _add_members(unpacked: Unpacked, container: str, arrived: list[_Arrived], fates: dict[int, _Fate]) -> None:
    for member in unpacked.members:
        number = len(arrived) + 1
        digest = sha256_file(member.path) if member.path is not None else None
        shown = f"{container} > {display_name(member.name)}"
        arrived.append(_Arrived(number, shown, member.path, digest, member.bytes_count))
        if member.path is None:
            fates[number] = _Fate("other", "refused", member.reason_code, member.reason)
        elif member.name.name.casefold() in SYSTEM_FILES:
            fates[number] = _system_file()


def _system_file() -> _Fate:
    return _Fate("other", "refused", "system_file", "An operating system left this file; nothing needs to be done.")


def _tables(
    waiting: list[_Arrived],
    profile: Profile,
    pseudonyms: Pseudonyms,
    site_code: str,
    delivery_key: str,
    fates: dict[int, _Fate],
) -> RegistryResult:
    files = [
        RegistryFile(file.path, file.number) for file in waiting if file.path is not None and is_candidate(file.path)
    ]
    result = read_registry(files, profile, pseudonyms, site_code, delivery_key)
    for number, fate in result.files.items():
        if fate.is_table:
            fates[number] = _Fate("registry", fate.status, fate.reason_code, fate.reason)
        else:
            fates[number] = _Fate("other", "refused", *NOT_USABLE)
    return result


def _images(
    home: Home,
    waiting: list[_Arrived],
    site_code: str,
    delivery_key: str,
    pseudonyms: Pseudonyms,
    fates: dict[int, _Fate],
    mapper: Mapper,
    progress: Progress,
) -> pl.DataFrame:
    """Hand everything that is left to imaging, which says what each file is."""
    if not waiting:
        return pl.DataFrame(schema=schema_of("raw_imaging__series"))
    # Imaging libraries take seconds to load; a delivery of tables alone does not wait for them.
    from ingestion.imaging import receive_images
    from ingestion.imaging.model import ImageFile

    files = [
        ImageFile(path=file.path, file_number=file.number, sha256=file.sha256 or "", bytes_count=file.bytes_count)
        for file in waiting
        if file.path is not None
    ]
    result = receive_images(home, site_code, delivery_key, files, pseudonyms, mapper=mapper, progress=progress)
    for number, fate in result.files.items():
        fates[number] = _Fate(fate.kind, fate.status, fate.reason_code, fate.reason, fate.series_key)
    return result.series


def _check_accounting(arrived: Sequence[_Arrived], fates: dict[int, _Fate], tables: RegistryResult) -> None:
    """Received = accepted + refused, for files and for registry rows.

    Raises
    ------
    RanvierError
        A file or row has no fate or a refusal no reason. Nothing is written then: it is our mistake, not the site's.
    """
    if {file.number for file in arrived} != fates.keys():
        missing = len({file.number for file in arrived} ^ fates.keys())
        raise RanvierError(
            f"{missing} file(s) of the delivery would be lost unaccounted; report this to the developers"
        )
    silent_refusals = [
        number
        for number, fate in fates.items()
        if fate.status not in ("accepted", "refused")
        or (fate.status == "refused" and not (fate.reason_code and fate.reason))
    ]
    if silent_refusals:
        raise RanvierError(
            f"File {silent_refusals[0]} would be refused without a reason; report this to the developers"
        )
    rows = sum(fate.rows_count for fate in tables.files.values())
    kept = sum(frame.height for frame in tables.tables.values())
    if rows != kept + tables.folded_count + tables.refusals.height:
        raise RanvierError(
            f"{rows} registry rows arrived, but {kept} were accepted, {tables.folded_count} joined another row of "
            f"their record and {tables.refusals.height} were refused; report this to the developers"
        )


def _write(
    home: Home,
    pseudonyms: Pseudonyms,
    delivery: Delivery,
    key: str,
    entries: list[Entry],
    arrived: list[_Arrived],
    fates: dict[int, _Fate],
    tables: RegistryResult,
    series: pl.DataFrame,
) -> None:
    site = delivery.site_code
    for entity, frame in tables.tables.items():
        write_part(home, f"raw_registry__{entity}", frame, site, key)
    if tables.refusals.height:
        write_part(home, "raw_registry__refusal", tables.refusals, site, key)
    if series.height:
        write_part(home, "raw_imaging__series", series, site, key)
    rows = [
        {
            "site_code": site,
            "delivery_key": key,
            "file_number": file.number,
            "display_name": file.display_name,
            "sha256": file.sha256,
            "bytes_count": file.bytes_count,
            "kind": fates[file.number].kind,
            "series_key": fates[file.number].series_key,
            "status": fates[file.number].status,
            "reason_code": fates[file.number].reason_code,
            "reason": fates[file.number].reason,
        }
        for file in arrived
    ]
    write_part(home, "raw_lake__file", pl.DataFrame(rows, schema=schema_of("raw_lake__file")), site, key)
    status, reason_code, reason = _standing(fates)
    received = datetime.now(UTC)
    write_json(
        home.lake / "deliveries" / site / f"{key}.json",
        {
            "site_code": site,
            "delivery_key": key,
            "display_name": display_name(delivery.folder.name),
            "folder_hash": folder_hash(pseudonyms, site, delivery.folder),
            "manifest_sha256": delivery.manifest_sha256,
            "received_datetime": received.isoformat(),
            "status": status,
            "files": [
                {
                    name: row[name]
                    for name in (
                        "file_number",
                        "display_name",
                        "sha256",
                        "bytes_count",
                        "kind",
                        "status",
                        "reason_code",
                    )
                }
                for row in rows
            ],
        },
    )
    _write_receipt(home, pseudonyms, delivery, key, status, received)
    summary = {
        "site_code": site,
        "delivery_key": key,
        "display_name": display_name(delivery.folder.name),
        "manifest_sha256": delivery.manifest_sha256,
        "received_datetime": received,
        "files_count": len(arrived),
        "bytes_count": sum(entry.bytes_count for entry in entries),
        "status": status,
        "reason_code": reason_code,
        "reason": reason,
    }
    write_part(home, "raw_lake__delivery", pl.DataFrame([summary], schema=schema_of("raw_lake__delivery")), site, key)
    refused = sum(fate.status == "refused" for fate in fates.values())
    LOGGER.info("received %s of %s: %d files, %d refused", key, site, len(arrived), refused)


def _standing(fates: dict[int, _Fate]) -> tuple[str, str | None, str | None]:
    """Status of the delivery as a whole, with the reason when nothing of it can be used."""
    content = [fate for fate in fates.values() if fate.kind not in ("marker", "archive")]
    if any(fate.status == "accepted" for fate in content):
        return "read", None, None
    packed = [fate for fate in fates.values() if fate.kind == "archive"]
    if not content and not packed:
        return "unreadable", "empty_delivery", "The delivery holds no file; send it again."
    count = len(content) + len(packed)
    refused = [fate for fate in (*content, *packed) if fate.status == "refused"]
    if not refused:
        return "unreadable", "empty_delivery", "The delivery holds only empty archives; send it again."
    codes = [fate.reason_code for fate in refused]
    common = max(refused, key=lambda fate: codes.count(fate.reason_code))
    return (
        "unreadable",
        "nothing_usable",
        f"None of its {count} file(s) can be used. The most frequent reason: {common.reason}",
    )
