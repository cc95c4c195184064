"""One self-contained HTML page per site, put together from the sections that `sections.yaml` declares.

Here: rendering, the list of everything refused as CSV, the last look for keys, and the atomic write. Not here: facts
(`gather`) or words (`texts.en.yaml`). The page asks for nothing from outside; its content policy forbids it as well.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image

from qa.reports import charts
from qa.reports.facts import Facts, Panel, TrendPoint
from qa.reports.gather import Gatherer, load_sections
from qa.reports.texts import Texts, load_texts
from warehouse import lake
from warehouse.errors import ReleaseError
from warehouse.home import Home, Network

FOLDER = Path(__file__).parent / "templates"
KEY = re.compile(r"\b(?:sbj|ses|ser|dlv|scn)_[0-9a-f]{8,}")
"""A key of the network, as `warehouse.pseudonyms` makes them."""
PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run when a cell begins with it."""


def report_folder(home: Home, site_code: str, version: str) -> Path:
    return home.reports / site_code / version


def render_report(home: Home, network: Network, site_code: str, version: str) -> Path:
    """Write `reports/<site>/<version>/index.html` and `refused.csv` beside it.

    Returns
    -------
    Path of `index.html`. The same lake gives the same bytes.

    Raises
    ------
    HomeError
        The network has no such site.
    ReleaseError
        The page would print a key; nothing is written.
    """
    site = network.site(site_code)
    texts = load_texts()
    gatherer = Gatherer(home, network, site_code, texts)
    facts = gatherer.facts()
    page = _page(facts, network, site.name or site.code, version, texts)
    table = _refused_csv(facts, texts)
    row_keys = {finding["entity_key"] for finding in gatherer.findings if finding["entity_kind"] != "site"}
    refuse_keys(PICTURE.sub("", page) + table, row_keys)
    folder = report_folder(home, site_code, version)
    lake.write_bytes(folder / "refused.csv", table.encode("utf-8-sig"))
    target = folder / "index.html"
    lake.write_bytes(target, page.encode())
    return target


def site_facts(home: Home, network: Network, site_code: str) -> Facts:
    """What a report on the site would show."""
    return Gatherer(home, network, site_code, load_texts()).facts()


def refuse_keys(text: str, keys: set[str]) -> None:
    """Raise ReleaseError when a text holds a key of the network or any of the given keys."""
    if KEY.search(text) or any(key in text for key in keys):
        raise ReleaseError("A site report would print a key of the network; it was not written. Tell the developers.")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates, escaping everything that does not say it is markup."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = charts.number
    return made


def _page(facts: Facts, network: Network, site_name: str, version: str, texts: Texts) -> str:
    sections = [
        section
        for section in load_sections()["sections"]
        if "shown" not in section or bool(getattr(facts, section["shown"]))
    ]
    values: dict[str, Any] = {
        "t": texts,
        "facts": facts,
        "network": network,
        "site_name": site_name,
        "version": version,
        "sections": sections,
        "style": (FOLDER / "style.css").read_text(encoding="utf-8"),
        "picture": picture_data,
        "panel_svg": lambda panel: charts.strip(panel.values, panel.network, _panel_title(panel, texts)),
        "trend_svg": _trend_svg,
    }
    return environment().get_template("page.html.j2").render(values)


def _panel_title(panel: Panel, texts: Texts) -> str:
    network = ""
    if panel.network is not None:
        low, middle, high = (charts.number(value) for value in panel.network)
        network = texts("measures.alt_network", low=low, median=middle, high=high)
    label = texts(f"measures.labels.{panel.measure}")
    own = f"{charts.number(panel.median)} {panel.unit}".strip()
    return texts("measures.alt", measure=label, contrast=panel.contrast, own=own, n=len(panel.values), network=network)


def _series(points: list[TrendPoint], name: str) -> list[tuple[str, float | None]]:
    return [(point.label, getattr(point, name)) for point in points]


def _trend_svg(points: list[TrendPoint], name: str, title: str) -> Markup:
    return charts.columns(_series(points, name), _trend_title(points, name, title))


def _trend_title(points: list[TrendPoint], name: str, title: str) -> str:
    told = [f"{label} {value:.0f} %" for label, value in _series(points, name) if value is not None]
    return f"{title}: {', '.join(told)}"


def picture_data(path: Path) -> str:
    """A mosaic as a data address. JPEG keeps a mail with many of them small; PNG would be about five times the size."""
    with Image.open(path) as image, io.BytesIO() as buffer:
        image.convert("RGB").save(buffer, "JPEG", quality=80, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _refused_csv(facts: Facts, texts: Texts) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    names = ("what", "delivery", "table", "file", "row", "reason", "action")
    writer.writerow([texts(f"csv.{name}") for name in names])
    for refusal in facts.refusals:
        for line in refusal.lines:
            writer.writerow([_cell(line.get(name)) for name in names[:-1]] + [refusal.action])
    return buffer.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
