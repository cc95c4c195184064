"""Unpacking what sites send packed, without trusting it.

Here: listing and unpacking zip and tar archives, one member at a time, into the home's cache. Not here: what the
members are. A member's path never leads out of its folder, no archive may grow without limit, and a damaged member is
refused without its neighbours.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from warehouse.lake import CHUNK

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
UNSUPPORTED_ENDINGS = (".7z", ".rar")
TAR_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda handle: cast(IO[bytes], gzip.GzipFile(fileobj=handle)),
    b"BZ": lambda handle: cast(IO[bytes], bz2.BZ2File(handle)),
    b"\xfd7": lambda handle: cast(IO[bytes], lzma.LZMAFile(handle)),  # noqa: SIM115 - whoever opens it closes it
}
"""First bytes of a compressed tar archive -> what unpacks it."""
MAXIMUM_MEMBERS = 500_000
"""More files than the largest study holds; beyond, listing alone would fill memory."""
MAXIMUM_RATIO = 200
"""Unpacked bytes per packed byte of a whole archive. DICOM and text pack to a fifth, empty background to a fiftieth."""
FREE_RATIO_BYTES = 256 << 20
"""Archives that unpack to less than this are not measured by their ratio."""
RESERVE_BYTES = 2 << 30
"""Disk space that unpacking leaves free."""

TOO_LARGE = (
    "archive_too_large",
    "The archive unpacks to more than is allowed or fits the disk; send it in parts or as a plain folder.",
)
NESTED = ("nested_archive", "Archives inside archives are not opened; unpack it and send its files.")

_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    UnicodeDecodeError,
    NotImplementedError,
    RuntimeError,
)
"""What the archive libraries raise on damaged content. Check an OSError with `_is_ours` first."""
_CONTENT_ERRNO = frozenset({None, errno.EINVAL})
"""Errors of the libraries have no number; a seek to an offset that the archive got wrong has EINVAL."""
_NAME_ERRNO = frozenset(
    {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOENT}
)
"""Errors that a member's name makes, and not the disk."""


@dataclass(frozen=True)
class Member:
    """One member: where it was unpacked, or why it was not."""

    name: PurePosixPath
    """As sent; only for sorting and masking."""
    path: Path | None
    bytes_count: int
    reason_code: str | None = None
    reason: str | None = None


@dataclass
class Unpacked:
    """An archive's members in path order, and why the archive itself is refused (None: it was listed to its end)."""

    members: list[Member] = field(default_factory=list)
    reason_code: str | None = None
    reason: str | None = None


class _TooLarge(Exception):
    """The archive unpacks to more than it may."""


def _is_ours(error: BaseException) -> bool:
    """Whether an error speaks of this machine (a full disk) and not of what was sent."""
    return isinstance(error, OSError) and error.errno not in _CONTENT_ERRNO


def has_archive_ending(name: str) -> bool:
    return name.lower().endswith((".zip", *TAR_ENDINGS, *UNSUPPORTED_ENDINGS))


def is_archive(path: Path) -> bool:
    """Whether a file is packed, by its ending or its first bytes. Workbooks and `.nii.gz` are not."""
    name = path.name.lower()
    if has_archive_ending(name):
        return True
    if name.endswith((".xlsx", ".xlsm", ".xlsb", ".ods", ".docx", ".pptx", ".mgz", ".gz")):
        return False
    try:
        with path.open("rb") as handle:
            start = handle.read(265)
    except OSError:
        return False
    # A DICOM preamble may hold anything, so its own mark at byte 128 wins.
    return start[128:132] != b"DICM" and (start[:4] == b"PK\x03\x04" or start[257:262] == b"ustar")


def unpack(archive: Path, folder: Path) -> Unpacked:
    """Unpack an archive into a folder of its own.

    Parameters
    ----------
    folder
        Must not exist or be empty; members keep their relative paths below it.

    Returns
    -------
    Unpacked
        One member per file in the archive, also for those refused: links and devices, unsafe paths, archives inside
        the archive, damaged ones, and whatever lies beyond the size limit.

    Raises
    ------
    OSError
        The disk is full or fails: nothing is known about the archive then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = Unpacked()
    try:
        name = archive.name.lower()
        if name.endswith(UNSUPPORTED_ENDINGS):
            result.reason_code = "unsupported_archive"
            result.reason = "This kind of archive is not read; send a zip or tar archive, or the plain folder."
        elif name.endswith(TAR_ENDINGS) or not _starts_like_zip(archive):
            if name.endswith(".zip"):
                raise zipfile.BadZipFile
            _unpack_tar(archive, folder, result)
        else:
            _unpack_zip(archive, folder, result)
    except PermissionError:
        result.reason_code = "unreadable_file"
        result.reason = "The file cannot be opened; check its permissions and send it again."
    except _TooLarge:
        result.reason_code, result.reason = TOO_LARGE
    except _DAMAGED as error:
        if _is_ours(error):
            raise
        result.reason_code = "damaged_archive"
        result.reason = (
            f"The archive is damaged or was cut off after {len(result.members)} readable file(s); "
            "pack and send it again."
        )
    result.members.sort(key=lambda member: member.name.as_posix())
    return result


def _starts_like_zip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"PK"


def _limit(archive: Path, folder: Path) -> int:
    """Bytes that an archive may unpack to."""
    free = shutil.disk_usage(folder).free - RESERVE_BYTES
    return max(0, min(max(FREE_RATIO_BYTES, archive.stat().st_size * MAXIMUM_RATIO), free))


class _Writer:
    """Writes members below a folder and keeps count of what they take."""

    def __init__(self, archive: Path, folder: Path, result: Unpacked) -> None:
        self._left = _limit(archive, folder)
        self._folder = folder
        self._result = result
        self._taken: set[str] = set()
        self._is_full = False

    def refuse(self, name: PurePosixPath, size: int, reason_code: str, reason: str) -> None:
        self._result.members.append(Member(name, None, size, reason_code, reason))

    def add(self, raw_name: str, size: int, opened: Callable[[], IO[bytes] | None], *, is_regular: bool) -> None:
        """Unpack one member, or refuse it with the reason. Raises what a damaged archive raises in `opened`."""
        name = PurePosixPath(raw_name.replace("\\", "/"))
        if not is_regular:
            self.refuse(name, size, "not_a_regular_file", "Links and devices are not followed; send the file itself.")
        elif name.is_absolute() or ".." in name.parts or re.match(r"^[A-Za-z]:", raw_name) or "\0" in raw_name:
            self.refuse(name, size, "unsafe_path", "Its path leads out of the archive; pack it with relative paths.")
        elif name.as_posix().casefold() in self._taken:
            self.refuse(name, size, "duplicate_member", "Another file of the archive has the same path; send it apart.")
        elif has_archive_ending(name.name):
            self.refuse(name, size, *NESTED)
        elif self._is_full:
            self.refuse(name, size, *TOO_LARGE)
        else:
            self._taken.add(name.as_posix().casefold())
            self._write(name, size, opened)

    def _write(self, name: PurePosixPath, size: int, opened: Callable[[], IO[bytes] | None]) -> None:
        target = self._folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = target.open("xb")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in _NAME_ERRNO:
                raise
            self.refuse(name, size, "unusable_name", "Its name cannot be stored; rename it and send it again.")
            return
        try:
            with handle:
                source = opened()
                if source is None:
                    raise zipfile.BadZipFile
                with source:
                    count = self._copy(source, handle)
        except _TooLarge:
            self._is_full = True
            target.unlink()
            self.refuse(name, size, *TOO_LARGE)
            return
        except _DAMAGED as error:
            target.unlink()
            if _is_ours(error):
                raise
            self.refuse(name, size, "damaged_member", "The file is damaged inside the archive; pack and send it again.")
            raise
        if is_archive(target):
            target.unlink()
            self.refuse(name, size, *NESTED)
            return
        self._result.members.append(Member(name, target, count))

    def _copy(self, source: IO[bytes], handle: IO[bytes]) -> int:
        count = 0
        while chunk := source.read(CHUNK):
            count += len(chunk)
            self._left -= len(chunk)
            if self._left < 0:
                raise _TooLarge
            handle.write(chunk)
        return count


def _unpack_zip(archive: Path, folder: Path, result: Unpacked) -> None:
    with zipfile.ZipFile(archive) as packed:
        infos = [info for info in packed.infolist() if not info.is_dir()]
        if _too_many(len(infos), result):
            return
        writer = _Writer(archive, folder, result)
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                name = PurePosixPath(info.filename.replace("\\", "/"))
                writer.refuse(
                    name, info.file_size, "encrypted", "The file is protected by a password; pack it without one."
                )
                continue
            before = len(result.members)
            try:
                writer.add(
                    info.filename,
                    info.file_size,
                    partial(packed.open, info),
                    is_regular=kind in (0, stat.S_IFREG),
                )
            except _DAMAGED as error:
                if _is_ours(error) or len(result.members) == before:
                    raise
                # A zip's members are found through its directory: one that is damaged says nothing about the next.


class _Stream:
    """An unpacked tar stream that ends with `_TooLarge` when more comes out of it than may."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._left = limit

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        return data


def _unpack_tar(archive: Path, folder: Path, result: Unpacked) -> None:
    with archive.open("rb") as handle:
        opener = TAR_OPENERS.get(handle.read(2))
        handle.seek(0)
        with opener(handle) if opener else nullcontext(handle) as source:
            # One pass under one limit, for what is skipped too: a few packed bytes may skip over a terabyte.
            stream = _Stream(source, _limit(archive, folder))
            # r|: the archive is read once from start to end; what follows is unpacked as it is met.
            with tarfile.open(fileobj=stream, mode="r|") as packed:  # type: ignore[call-overload]
                _add_tar_members(packed, _Writer(archive, folder, result), result)
            # A compressed stream that is cut off between two members ends silently for tarfile; its own end does not.
            while opener and stream.read(CHUNK):
                pass


def _add_tar_members(packed: tarfile.TarFile, writer: _Writer, result: Unpacked) -> None:
    for info in packed:
        if info.isdir():
            continue
        if _too_many(len(result.members) + 1, result):
            return
        writer.add(info.name, info.size, partial(packed.extractfile, info), is_regular=info.isreg())


def _too_many(count: int, result: Unpacked) -> bool:
    if count > MAXIMUM_MEMBERS:
        result.reason_code = "too_many_files"
        result.reason = f"The archive holds more than {MAXIMUM_MEMBERS} files; send it in parts."
        return True
    return False
