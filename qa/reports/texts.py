"""The words of the reports and mails, from one catalogue file.

Here: looking a text up and filling it in. Not here: which text stands where (the templates).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from warehouse.errors import DictionaryError

FOLDER = Path(__file__).parent


class Texts:
    """Texts by dotted name; one with the forms `one` and `other` is chosen by `n`."""

    def __init__(self, catalogue: dict[str, Any]) -> None:
        self._catalogue = catalogue

    def __call__(self, name: str, /, **values: Any) -> str:
        """The text called `name`, filled with `values`. Raises DictionaryError when the catalogue has none."""
        found = self._find(name)
        if found is None:
            raise DictionaryError(f"The report's text catalogue has no {name!r}")
        if isinstance(found, dict):
            found = found["one" if values.get("n") == 1 else "other"]
        return str(found).format(**values)

    def get(self, name: str, default: str) -> str:
        """The text called `name`, else the text called `default`."""
        return self(name if self._find(name) is not None else default)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> Any:
        found: Any = self._catalogue
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


@lru_cache(maxsize=2)
def load_texts(language: str = "en") -> Texts:
    return Texts(yaml.safe_load((FOLDER / f"texts.{language}.yaml").read_text(encoding="utf-8")))
