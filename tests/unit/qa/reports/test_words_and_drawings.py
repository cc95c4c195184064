"""The small parts of a report: names of places, numbers, drawings, texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qa.reports import charts
from qa.reports.assemble import FOLDER, refuse_keys
from qa.reports.facts import Panel
from qa.reports.gather import load_sections, ranges, series_name
from qa.reports.texts import Texts, load_texts
from warehouse.errors import DictionaryError, ReleaseError


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([3, 4], "3, 4"), ([9, 3, 7, 8, 12, 8], "3, 7-9, 12"), (range(1, 21), "1-20")],
)
def test_numbers_are_told_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


@pytest.mark.parametrize(
    ("contrast", "first", "last", "text"),
    [
        ("T1w", 12, 181, "T1w, files 12-181"),
        ("FLAIR", 7, 7, "FLAIR, file 7"),
        ("unknown", 1, 2, "scan, files 1-2"),
        ("T2w", None, None, "T2w"),
    ],
)
def test_a_series_is_named_by_contrast_and_files(contrast: str, first: int, last: int, text: str) -> None:
    assert series_name({"contrast": contrast, "first_file_number": first, "last_file_number": last}) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (3.14159, "3.14"), (15.91, "15.9"), (1234.5, "1,234"), (-4.733, "−4.73")],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert charts.number(value) == text


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0], [-3.0, 5.0, 900.0]])
@pytest.mark.parametrize("network", [None, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0)])
def test_every_mark_of_a_strip_lies_inside_the_drawing(
    values: list[float], network: tuple[float, float, float] | None
) -> None:
    drawn = charts.strip(values, network, "a & b")
    assert drawn.count("<circle") == len(values)
    assert ("range" in drawn) == (network is not None)
    spots = [float(x) for x in re.findall(r'cx="([\d.-]+)"', drawn)]
    assert all(0 <= x <= charts.WIDTH for x in spots)
    assert 'aria-label="a &amp; b"' in drawn


def test_a_month_without_a_value_is_a_gap_and_not_a_zero() -> None:
    drawn = charts.columns([("2026-01", 50.0), ("2026-02", None)], "scans")
    assert drawn.count('class="bar"') == 1
    assert "0 %" not in drawn.replace("50 %", "")


@pytest.mark.parametrize(
    ("direction", "own", "is_better"),
    [
        ("higher", 12.0, True),
        ("higher", 8.0, False),
        ("lower", 8.0, True),
        ("lower", 12.0, False),
        ("none", 12.0, False),
    ],
)
def test_better_depends_on_the_direction_of_the_measure(direction: str, own: float, is_better: bool) -> None:
    assert Panel("T1w", "x", "", direction, [own] * 3, (1.0, 10.0, 20.0)).is_better is is_better


def test_one_scan_is_no_ground_for_praise() -> None:
    assert not Panel("T1w", "x", "", "higher", [12.0], (1.0, 10.0, 20.0)).is_better


def test_every_text_a_template_names_exists() -> None:
    texts = load_texts()
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.j2"))
    names = set(re.findall(r'\bt\("([\w.]+)"[,)]', sources))
    assert len(names) > 40
    assert [name for name in names if not texts.has(name)] == []


def test_every_declared_section_has_its_template_and_heading_and_every_measure_its_label() -> None:
    declared, texts = load_sections(), load_texts()
    for section in declared["sections"]:
        assert (FOLDER / "sections" / f"{section['template']}.html.j2").is_file()
        assert texts.has(f"sections.{section['id']}")
    assert all(texts.has(f"measures.labels.{name}") for name in declared["measures"])
    assert all(texts.has(f"who.{who}") for who in declared["who"].values())


def test_a_text_that_is_not_there_is_an_error_and_not_a_blank() -> None:
    with pytest.raises(DictionaryError, match="no 'nonsense'"):
        Texts({})("nonsense")


@pytest.mark.parametrize(
    "key", ["sbj_00112233aabbccdd", "ses_00112233aabbccdd", "ser_0011223344556677", "row-of-a-patient"]
)
def test_a_page_with_a_key_is_refused(key: str) -> None:
    with pytest.raises(ReleaseError):
        refuse_keys(f"<p>{key}</p>", {"row-of-a-patient"})


def test_nothing_in_the_templates_asks_for_anything_from_outside() -> None:
    for path in Path(FOLDER).rglob("*"):
        if path.is_file():
            assert not re.search(r"https?://|url\(|@import|<script", path.read_text(encoding="utf-8")), path
