"""Small drawings as inline SVG that follow the page's colours, light or dark, on screen and paper.

Here: geometry only. Not here: which values are drawn, or any word (titles come from the caller).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH = 320
INSET = 10
"""Room at both ends, so that a dot at the limit is whole."""


def number(value: float) -> str:
    """A value with three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "?"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}".replace("-", "−")


def strip(values: Sequence[float], network: tuple[float, float, float] | None, title: str) -> Markup:
    """The site's values as dots over the network's range as a bar.

    Parameters
    ----------
    values
        The site's values, at least one.
    network
        5 %, median and 95 % of the network, or None where they may not be shown.
    title
        What a screen reader says.
    """
    own = sorted(values)
    reach = [*own, *(network or ())]
    low, high = min(reach), max(reach)
    pad = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    start, end = low - pad, high + pad

    def x(value: float) -> float:
        return float(INSET + (value - start) / (end - start) * (WIDTH - 2 * INSET))

    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="34" y2="34"/>']
    if network is not None:
        a, b, c = (x(value) for value in network)
        parts.append(f'<rect class="range" x="{a:.1f}" y="8" width="{max(2, c - a):.1f}" height="26" rx="3"/>')
        parts.append(f'<line class="middle" x1="{b:.1f}" x2="{b:.1f}" y1="6" y2="34"/>')
    placed: list[tuple[float, int]] = []
    for value in own:
        level = sum(1 for spot, _ in placed[-12:] if abs(spot - x(value)) < 5) % 3
        placed.append((x(value), level))
    parts += [f'<circle class="dot" cx="{spot:.1f}" cy="{28 - 7 * level}" r="3.2"/>' for spot, level in placed]
    half = len(own) // 2
    median = own[half] if len(own) % 2 else (own[half - 1] + own[half]) / 2
    m = min(max(x(median), INSET), WIDTH - INSET)
    parts.append(f'<path class="own" d="M{m:.1f} 35l-5 8h10z"/>')
    parts.append(f'<text x="0" y="55">{number(low)}</text>')
    parts.append(f'<text x="{WIDTH}" y="55" text-anchor="end">{number(high)}</text>')
    return _svg(WIDTH, 58, title, parts)


def columns(points: Sequence[tuple[str, float | None]], title: str) -> Markup:
    """Per cent over time as columns from 0 to 100, each with its number; a point without a value is a gap."""
    step = 64
    width = max(2, len(points)) * step
    parts = [f'<line class="axis" x1="0" x2="{width}" y1="120" y2="120"/>']
    for index, (label, value) in enumerate(points):
        middle = index * step + step / 2
        if value is None:
            parts.append(f'<text x="{middle}" y="114" text-anchor="middle">–</text>')
        else:
            height = max(1.0, value)
            parts.append(
                f'<rect class="bar" x="{middle - 16}" y="{120 - height:.1f}" width="32" height="{height:.1f}"/>'
            )
            parts.append(f'<text x="{middle}" y="{114 - height:.1f}" text-anchor="middle">{value:.0f} %</text>')
        short = label if len(label) <= 10 else label[:9] + "…"
        parts.append(f'<text x="{middle}" y="136" text-anchor="middle">{escape(short)}</text>')
    return _svg(width, 142, title, parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> Markup:
    head = f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")
