"""Archives are unpacked without trusting them, and a failing disk is never blamed on the site."""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from ingestion import archives
from ingestion.archives import Unpacked, unpack


def codes(result: Unpacked) -> dict[str, str | None]:
    return {member.name.as_posix(): member.reason_code for member in result.members}


def tar_with(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def test_a_zip_gives_one_member_per_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("good/a.csv", "x")
        packed.writestr("../../escaped.csv", "x")
        packed.writestr("/etc/absolute", "x")
        packed.writestr("C:\\windows\\x", "x")
        packed.writestr("GOOD/A.csv", "y")
        packed.writestr("inner.zip", "x")
        packed.writestr(link, "/etc/passwd")
        packed.writestr("hidden", zipped(b"x"))
    result = unpack(path, tmp_path / "out")
    assert result.reason_code is None
    assert codes(result) == {
        "good/a.csv": None,
        "../../escaped.csv": "unsafe_path",
        "/etc/absolute": "unsafe_path",
        "C:/windows/x": "unsafe_path",
        "GOOD/A.csv": "duplicate_member",
        "inner.zip": "nested_archive",
        "link": "not_a_regular_file",
        "hidden": "nested_archive",
    }
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.csv"]
    assert not (tmp_path.parent / "escaped.csv").exists()


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("x", data)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_gives_its_members_and_refuses_links(tmp_path: Path, mode: str) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members = [(tarfile.TarInfo("a/b.csv"), b"x"), (tarfile.TarInfo("../up"), b"x"), (link, b"")]
    result = unpack(tar_with(tmp_path / "a.tar", members, mode), tmp_path / "out")
    assert result.reason_code is None
    assert codes(result) == {"a/b.csv": None, "../up": "unsafe_path", "link": "not_a_regular_file"}


def test_bombs_stop_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_RATIO_BYTES", 4 << 20)
    zeros = bytes(64 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb", zeros)
        packed.writestr("after", "x")
    zip_result = unpack(tmp_path / "a.zip", tmp_path / "1")
    assert codes(zip_result) == {"bomb": "archive_too_large", "after": "archive_too_large"}
    tar = tar_with(tmp_path / "a.tgz", [(tarfile.TarInfo("first"), b"x"), (tarfile.TarInfo("bomb"), zeros)])
    tar_result = unpack(tar, tmp_path / "2")
    assert codes(tar_result) == {"first": None, "bomb": "archive_too_large"}
    assert tar_result.reason_code == "archive_too_large"
    # What follows the end of the tar is unpacked, too, to see whether the stream is whole.
    with gzip.open(tmp_path / "b.tgz", "wb") as stream:
        stream.write(gzip.decompress(tar_with(tmp_path / "c.tgz", [(tarfile.TarInfo("x"), b"x")]).read_bytes()) + zeros)
    assert unpack(tmp_path / "b.tgz", tmp_path / "3").reason_code == "archive_too_large"
    assert sum(p.stat().st_size for p in tmp_path.glob("?/**/*") if p.is_file()) < 8 << 20


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar.xz"])
def test_cut_off_archives_are_damaged(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    data = [os.urandom(50_000) for _ in range(4)]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for number, content in enumerate(data):
                packed.writestr(str(number), content)
    else:
        members = [(tarfile.TarInfo(str(number)), content) for number, content in enumerate(data)]
        tar_with(path, members, "w:gz" if kind == "tgz" else "w:xz")
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        result = unpack(path, tmp_path / f"out{share}")
        assert result.reason_code == "damaged_archive"
        assert result.reason and "pack and send it again" in result.reason


def test_a_damaged_zip_member_spares_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name in "abc":
            packed.writestr(name, name.encode() * 1000)
    path.write_bytes(path.read_bytes().replace(b"b" * 1000, b"x" * 1000))
    result = unpack(path, tmp_path / "out")
    assert result.reason_code is None
    assert codes(result) == {"a": None, "b": "damaged_member", "c": None}


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_a_full_disk_is_not_a_damaged_archive(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / kind
    if kind == "a.zip":
        path.write_bytes(zipped(b"x"))
    else:
        tar_with(path, [(tarfile.TarInfo("x"), b"x")])

    def full(self: object, source: object, handle: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives._Writer, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(path, tmp_path / "out")
