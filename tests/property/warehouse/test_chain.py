"""Whatever single byte of the log or its anchor is changed, added or removed, verifying says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warehouse import chain


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("audit")
    limit, chain.SEGMENT_BYTES = chain.SEGMENT_BYTES, 1000
    try:
        for number in range(9):
            chain.append(folder, {"user": "ann", "statement": f"select ü{number}", "rows": number, "site": None})
    finally:
        chain.SEGMENT_BYTES = limit
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


ANY = settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@ANY
@given(data=st.data())
def test_any_changed_byte_is_noticed(files: tuple[Path, dict[str, bytes]], data: st.DataObject) -> None:
    folder, contents = files
    name = data.draw(st.sampled_from(sorted(contents)))
    content = contents[name]
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    try:
        (folder / name).write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
        assert not chain.verify(folder).is_whole
    finally:
        (folder / name).write_bytes(content)
    assert chain.verify(folder).is_whole


@ANY
@given(data=st.data())
def test_any_removed_stretch_is_noticed(files: tuple[Path, dict[str, bytes]], data: st.DataObject) -> None:
    folder, contents = files
    name = data.draw(st.sampled_from(sorted(contents)))
    content = contents[name]
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    try:
        (folder / name).write_bytes(content[:start] + content[end:])
        assert not chain.verify(folder).is_whole
    finally:
        (folder / name).write_bytes(content)
