"""The data files of this package, read once per process.

Here: contrasts, vendor tags and the de-identification policy as plain dictionaries, and the one way words are compared
with them. Not here: what the rules mean (`classify`, `deidentify`).
"""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib import resources
from typing import Any

import pydicom
import yaml

from warehouse.errors import DictionaryError
from warehouse.lake import sha256_json


def silence_pydicom() -> None:
    """Keep pydicom from quoting header values, which may name a patient, in warnings and logs.

    Values are checked where they are used, so its own checks are off as well.
    """
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


@cache
def load(name: str) -> dict[str, Any]:
    """A data file of this package. Raises DictionaryError when it is not a YAML mapping."""
    value = yaml.safe_load(resources.files("ingestion.imaging").joinpath(name).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise DictionaryError(f"ingestion/imaging/{name} must be a YAML mapping")
    return value


@cache
def fingerprint(*names: str) -> str:
    """Hash of data files: part of the key of whatever was made with them."""
    return sha256_json([load(name) for name in names])


@cache
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


def words_of(*texts: str) -> str:
    """Texts joined, with everything but letters, digits, '+' and '*' as one space: so `\\b` finds words."""
    return re.sub(r"[^0-9a-z+*]+", " ", " ".join(texts).lower()).strip()


def names_any(text: str, expressions: list[str]) -> bool:
    """Whether any of the regular expressions is found in the text, case-blind."""
    return any(_pattern(expression).search(text) for expression in expressions)
