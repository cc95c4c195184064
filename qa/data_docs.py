"""Great Expectations' own pages about a site's registry tables.

Here: rendering a validation into pages that hold no row, no cell value and no outside link. Not here: the validation
(`qa.judge`). They lie in the lake, where the data manager's browser finds them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qa.judge import Judged
from warehouse import lake
from warehouse.home import Home

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

SCRIPTED = re.compile(
    r"<script\b.*?</script>|<footer>.*?</footer>|<img\b[^>]*>|<link\b[^>]*>|<form\b.*?</form>", re.I | re.S
)
"""What needs the script libraries that the page loses, the maker's logo and its newsletter."""
ABOVE = re.compile(r"(?:\.\./)+(?:index|expectations/\w+)\.html")
"""Links to pages of the store, which is not kept."""
OUTSIDE = re.compile(r"""<(?:link|script)\b[^>]*?(?:href|src)\s*=\s*["'](?:https?:)?//[^>]*>(?:\s*</script>)?""", re.I)
ELSEWHERE = re.compile(r"""\b(href|src|action)\s*=\s*(["'])(?:https?:)?//[^"']*\2""", re.I)
ADDRESS = re.compile(r"""(?:https?:)?//(?:[a-z0-9-]+\.)+[a-z]{2,}[^\s"'<>)]*""", re.I)
STYLE = """<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse}
td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}
.hide,.modal,.card.mb-3{display:none}.fas{font-style:normal}
.fa-check-circle::before{content:"\\2713  holds"}.fa-times::before{content:"\\2717  broken"}
.fa-exclamation-triangle::before{content:"? not known"}</style>"""


def docs_page(home: Home, site_code: str) -> Path:
    """Where the pages about a site begin."""
    return home.lake / "docs" / site_code / "index.html"


def build_data_docs(home: Home, site_code: str, judged: list[Judged]) -> Path:
    """Great Expectations' own pages about a site, at `lake/docs/<site>/index.html`.

    They hold counts and the dictionary's words: no row key, no cell value, and nothing that a browser fetches from
    elsewhere. The validations are stripped of both, and cannot be used for anything else afterwards.
    """
    target = docs_page(home, site_code).parent
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{site_code}-") as scratch:
        draft = Path(scratch) / "pages"
        draft.mkdir()
        links = [_table_page(table, draft) for table in judged]
        index = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Registry checks of {site_code}</title>'
            f"{STYLE}</head><body><h1>Registry checks of {site_code}</h1><ul>{''.join(links)}</ul></body></html>"
        )
        lake.write_bytes(draft / "index.html", index.encode())
        old = Path(scratch) / "old"
        if target.exists():
            target.rename(old)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    return target / "index.html"


def _table_page(table: Judged, folder: Path) -> str:
    """Write the page of one table; returns its line in the index."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    name, validation = table.entity.name, table.validation
    if validation is None:
        return f"<li>{name}: no rows were delivered</li>"
    unknown = {answer.rule.id: answer.reason for answer in table.answers if answer.reason}
    for result in validation.results:
        _drop_rows(result, unknown)
    # The markers of a batch hold a fingerprint of the data and the time of the run.
    cast("dict[str, Any]", validation.meta).pop("batch_markers", None)
    view: Any = DefaultJinjaPageView()
    page = without_outside(view.render(ValidationResultsPageRenderer().render(validation)))
    lake.write_bytes(folder / f"{name}.html", page.encode())
    return f'<li><a href="{name}.html">{name}</a></li>'


def _drop_rows(result: ExpectationValidationResult, unknown: dict[str, str]) -> None:
    """Keep the counts of a result and nothing that was in a cell; a rule that is not known is shown as such."""
    assert result.expectation_config is not None
    reason = unknown.get(result.expectation_config.meta["rule"])
    kept = ("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent")
    result.result = {name: result.result[name] for name in kept if not reason and result.result.get(name) is not None}
    said = f"undetermined: {reason}" if reason else None
    result.exception_info = {
        "raised_exception": bool(reason),
        "exception_message": said,
        "exception_traceback": said,
    }


def without_outside(page: str) -> str:
    """A page without anything a browser would fetch from elsewhere, readable without the style sheets it loses."""
    page = SCRIPTED.sub("", page)
    page = ABOVE.sub("index.html", page)
    page = OUTSIDE.sub("", page)
    page = ELSEWHERE.sub(r"\1=\2#\2", page)
    page = ADDRESS.sub("", page)
    return page.replace("</head>", f"{STYLE}</head>", 1)
