"""The page on image measures names every measure, limit and protocol item as it is."""

from pathlib import Path

from qa.imaging.answers import CATALOGUE
from qa.imaging.verdict import load_limits

PAGE = Path(__file__).parents[4] / "docs" / "image_measures.md"


def test_page_is_complete() -> None:
    text = PAGE.read_text(encoding="utf-8")
    limits = load_limits()
    for name, kind in CATALOGUE.items():
        assert f"| `{name}` | {kind.unit} | {kind.direction} | {kind.meaning} |" in text
    for name, threshold in limits.thresholds.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | {threshold.rule}"))
        assert f"{threshold.limit:g}" in row
        assert threshold.source in row
    for name, item in limits.protocol.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | {', '.join(item.contrasts)}"))
        assert f"{item.limit:g}" in row
