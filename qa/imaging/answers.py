"""Making measures: every measure's unit and direction stated once.

Here: the catalogue of measures (`measures.yaml`) and the two ways to answer. Not here: any formula.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qa.model import Direction, Measure, Reason

METHOD_VERSION = "ranvier-img/2"
"""Raise when any formula of the measures changes: images are then measured again."""


@dataclass(frozen=True)
class Kind:
    """What a measure is: unit, better side, meaning; equation, source, what moves it, what a site can do."""

    unit: str
    direction: Direction
    meaning: str
    equation: str
    reference: str
    moves: str
    act: str


SIDE_NAMES = ("left", "right", "posterior", "anterior", "inferior", "superior")


def _spelt_out(name: str, entry: dict[str, Any], words: dict[str, dict[str, str]]) -> Iterator[tuple[str, Kind]]:
    """An entry once for each word that its braces stand for: the short form in its name, the long one in its texts."""
    lists = re.findall(r"\{(\w+)\}", name)
    for chosen in itertools.product(*(words[key].items() for key in lists)):
        short = {key: item[0] for key, item in zip(lists, chosen, strict=True)}
        long = {key: item[1] for key, item in zip(lists, chosen, strict=True)}
        texts = {key: str(entry[key]).format(**long) for key in ("meaning", "equation", "reference", "moves", "act")}
        yield name.format(**short), Kind(entry["unit"], entry["better"], **texts)


def _catalogue() -> dict[str, Kind]:
    content = yaml.safe_load((Path(__file__).parent / "measures.yaml").read_text(encoding="utf-8"))
    return {
        name: kind
        for entry_name, entry in content["measures"].items()
        for name, kind in _spelt_out(entry_name, entry, content["words"])
    }


CATALOGUE: dict[str, Kind] = _catalogue()


def answer(name: str, value: float, mask_sha256: str | None = None) -> Measure:
    """A measure with its value; one that is not a finite number becomes an answer with a reason."""
    if not math.isfinite(value):
        return unknown(
            name,
            "not_finite",
            "The formula has no finite answer on this image",
            mask_sha256,
        )
    kind = CATALOGUE[name]
    return Measure(name, float(value), kind.unit, kind.direction, METHOD_VERSION, None, mask_sha256)


def unknown(name: str, code: str, text: str, mask_sha256: str | None = None) -> Measure:
    """A measure that cannot be told, and why."""
    kind = CATALOGUE[name]
    return Measure(
        name,
        None,
        kind.unit,
        kind.direction,
        METHOD_VERSION,
        Reason(code, text),
        mask_sha256,
    )


def all_unknown(names: Iterable[str], reason: Reason, mask_sha256: str | None = None) -> list[Measure]:
    """Several measures that cannot be told for one reason."""
    return [unknown(name, reason.code, reason.text, mask_sha256) for name in names]
