"""The chained log: what is noticed, what is recovered, what goes on."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from warehouse import chain
from warehouse.errors import RanvierError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for number in range(6):
        chain.append(tmp_path, {"user": f"u{number}", "statement": "select ü ?"})
    assert chain.verify(tmp_path) == chain.Verdict(6, chain.verify(tmp_path).anchor, [], [])
    return tmp_path


def first_file(log: Path) -> Path:
    return log / "queries-000001.jsonl"


def _write_some(folder: str, writer: int) -> None:
    for number in range(40):
        entry = {"user": f"{writer}/{number}", "statement": "x" * 3000}
        chain.append(Path(folder), entry, is_durable=number % 2 == 1)


def test_eight_processes_neither_lose_nor_mix_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SEGMENT_BYTES", 100_000)  # so that the files change under the writers
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_some, args=(str(tmp_path), n)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    verdict = chain.verify(tmp_path)
    assert verdict.is_whole and verdict.records == 320
    users = [record["user"] for record in chain.records(tmp_path)]
    assert sorted(users) == sorted(f"{w}/{n}" for w in range(8) for n in range(40))
    # Of one writer the order is kept.
    assert [user for user in users if user.startswith("3/")] == [f"3/{n}" for n in range(40)]
    assert len(list(tmp_path.glob("queries-*.jsonl"))) > 5


def test_the_chain_goes_on_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SEGMENT_BYTES", 600)
    for number in range(12):
        chain.append(tmp_path, {"n": number})
    files = sorted(tmp_path.glob("queries-*.jsonl"))
    assert len(files) == 4
    assert chain.verify(tmp_path).is_whole
    files[1].unlink()
    assert any("queries-000002.jsonl is missing" in problem for problem in chain.verify(tmp_path).problems)


def test_a_removed_line_is_noticed_wherever_it_was(log: Path) -> None:
    whole = first_file(log).read_bytes()
    lines = whole.splitlines(keepends=True)
    for position in range(len(lines)):
        first_file(log).write_bytes(b"".join(lines[:position] + lines[position + 1 :]))
        assert not chain.verify(log).is_whole, position
    for left in range(len(lines)):
        first_file(log).write_bytes(b"".join(lines[:left]))
        problems = chain.verify(log).problems
        assert problems == [f"records {left + 1} to 6 are missing: the log ends before its anchor"]
    first_file(log).unlink()
    assert not chain.verify(log).is_whole


def test_lines_in_another_order_or_twice_are_noticed(log: Path) -> None:
    lines = first_file(log).read_bytes().splitlines(keepends=True)
    for changed in ([*lines[:2], lines[3], lines[2], *lines[4:]], [*lines[:3], *lines[2:]], [*lines, lines[0]]):
        first_file(log).write_bytes(b"".join(changed))
        assert not chain.verify(log).is_whole


@pytest.mark.parametrize("fragment", [0, 50])
def test_a_cut_stays_visible_after_later_questions(log: Path, fragment: int) -> None:
    lines = first_file(log).read_bytes().splitlines(keepends=True)
    first_file(log).write_bytes(b"".join(lines[:4]) + lines[4][:fragment])
    chain.append(log, {"user": "later"})
    chain.append(log, {"user": "latest"})
    assert any("number 7 after 4" in problem for problem in chain.verify(log).problems)
    assert [record["user"] for record in chain.records(log)][-2:] == ["later", "latest"]


def test_a_missing_anchor_is_noticed_and_stays_noticed(log: Path) -> None:
    (log / "head.json").unlink()
    assert "the anchor, is missing" in chain.verify(log).problems[0]
    chain.append(log, {"user": "later"})
    verdict = chain.verify(log)
    assert verdict.records == 8  # the six, that the anchor was missing, the later one
    assert len(verdict.problems) == 1 and "the end may have been cut" in verdict.problems[0]


def test_an_anchor_kept_elsewhere_shows_what_rewriting_both_hides(log: Path) -> None:
    kept = chain.verify(log).anchor
    assert kept is not None
    chain.append(log, {"user": "later"})
    assert chain.verify(log, kept).is_whole
    for path in log.iterdir():
        path.unlink()
    for number in range(8):
        chain.append(log, {"user": f"forged {number}"})
    assert chain.verify(log).is_whole  # nothing inside the folder tells
    assert chain.verify(log, kept).problems == ["record 6 of the anchor you gave is not in the log"]
    for wrong in ("6", "x:y", "6:abc"):
        with pytest.raises(RanvierError, match="NUMBER:HASH"):
            chain.verify(log, wrong)


def test_an_interrupted_write_is_recovered_and_recorded(log: Path) -> None:
    before = (log / "head.json").read_bytes()
    chain.append(log, {"user": "cut short"})
    line = first_file(log).read_bytes().splitlines(keepends=True)[-1]
    (log / "head.json").write_bytes(before)
    whole = first_file(log).read_bytes().removesuffix(line)
    for kept in range(1, len(line)):
        first_file(log).write_bytes(whole + line[:kept])
        (log / "head.json").write_bytes(before)
        verdict = chain.verify(log)
        assert verdict.is_whole and "interrupted write" in verdict.notes[0], kept
        chain.append(log, {"user": "next"})
        verdict = chain.verify(log)
        assert verdict.is_whole and "a write was interrupted" in verdict.notes[0], kept
        # What was cut is still there, and cannot be changed any more.
        assert line[:kept] in first_file(log).read_bytes()
        torn = first_file(log).read_bytes()
        first_file(log).write_bytes(torn.replace(whole + line[:kept], whole + b"#" + line[1:kept]))
        assert not chain.verify(log).is_whole, kept


def test_a_record_the_anchor_missed_is_taken_in(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (log / "head.json").read_bytes()
    chain.append(log, {"user": "written, then a power cut"})
    (log / "head.json").write_bytes(before)
    verdict = chain.verify(log)
    assert verdict.is_whole and verdict.notes == [
        "the anchor knows the records up to 6 of 7; the next query anchors the rest"
    ]
    # Once more at the change of files.
    monkeypatch.setattr(chain, "SEGMENT_BYTES", 10)
    chain.append(log, {"user": "in the next file"})
    before = (log / "head.json").read_bytes()
    chain.append(log, {"user": "in a file the anchor does not know"})
    (log / "head.json").write_bytes(before)
    chain.append(log, {"user": "next"})
    verdict = chain.verify(log)
    assert verdict.is_whole and not verdict.notes and verdict.records == 10


def test_a_crash_before_the_anchor_is_caught_up_with_among_records_that_need_not_be_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "SEGMENT_BYTES", 500)
    anchor = b""
    for number in range(12):
        chain.append(tmp_path, {"n": number}, is_durable=number % 3 == 0)
        if number % 6 == 3:  # a crash; the next durable record catches up
            (tmp_path / "head.json").write_bytes(anchor)
        anchor = (tmp_path / "head.json").read_bytes()
        assert chain.verify(tmp_path).is_whole, number
    assert len(list(tmp_path.glob("queries-*.jsonl"))) > 2
    chain.append(tmp_path, {"n": 12})
    assert not chain.verify(tmp_path).notes
    assert [record["n"] for record in chain.records(tmp_path)] == list(range(13))


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file in the folder's place")
    with pytest.raises(RanvierError, match="no query is answered"):
        chain.append(tmp_path / "audit", {})


def test_files_are_for_the_owner_only(log: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in log.iterdir()} == {0}
    assert json.loads((log / "head.json").read_text())["number"] == 6
