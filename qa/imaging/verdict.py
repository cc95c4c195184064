"""From measures to a verdict: thresholds and protocols applied, in a radiographer's words.

Here: pass, fail or undetermined, and every reason. Not here: any measuring. Limits are data (`thresholds.yaml`,
`protocols.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from qa.imaging.measure import LOOKED_AT, MEASURED
from qa.model import Measure, Verdict
from warehouse.errors import RanvierError
from warehouse.lake import sha256_json

FOLDER = Path(__file__).parent


class ThresholdError(RanvierError):
    """A threshold or protocol contradicts itself, or an override names none."""


class Also(BaseModel):
    """A second measure that must be on the given side of a limit too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str
    below: float | None = None
    above: float | None = None

    def holds(self, measures: Mapping[str, Measure]) -> bool:
        """A measure without a value never holds."""
        found = measures.get(self.measure)
        if found is None or found.value is None:
            return False
        return (self.below is None or found.value < self.below) and (self.above is None or found.value > self.above)


class Threshold(BaseModel):
    """One limit on one measure. Exactly one of `above`, `below`, `beyond` (distance from `centre`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str
    above: float | None = None
    below: float | None = None
    beyond: float | None = None
    centre: float = 0
    sides: tuple[str, str] = ("", "")
    """What `say` calls a value above the centre, and one below."""
    also: tuple[Also, ...] = ()
    """The limit counts as crossed only when all of these hold as well."""
    rule: str
    contrasts: tuple[str, ...] = MEASURED
    is_essential: bool
    is_refused: bool = False
    only_undetermined: bool = False
    """Crossing the limit leaves the verdict open instead of failing it."""
    is_advisory: bool = False
    """Crossing the limit is told as a warning and changes no verdict."""
    say: str
    action: str
    source: str

    @model_validator(mode="after")
    def _one_limit(self) -> Threshold:
        if sum(x is not None for x in (self.above, self.below, self.beyond)) != 1:
            raise ValueError("needs exactly one of above, below, beyond")
        return self

    @property
    def limit(self) -> float:
        return next(x for x in (self.above, self.below, self.beyond) if x is not None)

    def is_crossed(self, value: float, measures: Mapping[str, Measure]) -> bool:
        """Whether the measure's value is on the wrong side. A missing second measure never crosses."""
        if not all(other.holds(measures) for other in self.also):
            return False
        if self.above is not None:
            return value > self.above
        if self.below is not None:
            return value < self.below
        return abs(value - self.centre) > self.limit

    def sentence(self, value: float, note: str = "") -> str:
        """What is said of a value beyond the limit; `note` adds what only this image tells, such as an axis."""
        away = value - self.centre
        side = self.sides[0 if away > 0 else 1]
        return self.say.format(value=value, limit=self.limit, centre=self.centre, away=abs(away), side=side, note=note)

    def with_limit(self, limit: float) -> Threshold:
        side = next(n for n in ("above", "below", "beyond") if getattr(self, n) is not None)
        return self.model_copy(update={side: limit})


class ProtocolItem(BaseModel):
    """One demand on a header value, for some contrasts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contrasts: tuple[str, ...]
    when: dict[str, Any] = {}
    column: str
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = 0
    is_essential: bool
    say: str
    source: str

    @property
    def limit(self) -> float:
        return self.minimum if self.minimum is not None else float(self.maximum or 0)

    def is_broken(self, value: float) -> bool:
        if self.minimum is not None:
            return value < self.minimum - self.tolerance
        return value > float(self.maximum or 0) + self.tolerance


@dataclass(frozen=True)
class Limits:
    """All thresholds and protocol items in force, and the hash of both."""

    thresholds: dict[str, Threshold]
    protocol: dict[str, ProtocolItem]
    sha256: str


@dataclass(frozen=True)
class Trouble:
    """One thing wrong with a series: its rule, what is wrong, what to do."""

    rule_id: str
    text: str
    action: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Judgement:
    """A verdict, the troubles it rests on, and warnings it does not rest on."""

    verdict: Verdict
    troubles: tuple[Trouble, ...]


@lru_cache(maxsize=1)
def _files() -> tuple[dict[str, Any], dict[str, Any]]:
    first, second = ((FOLDER / name).read_text(encoding="utf-8") for name in ("thresholds.yaml", "protocols.yaml"))
    return yaml.safe_load(first), yaml.safe_load(second)


def load_limits(overrides: Mapping[str, Any] | None = None) -> Limits:
    """Thresholds and protocols with the network's overrides.

    Parameters
    ----------
    overrides
        `thresholds` of network.yaml: threshold name to its limit.

    Raises
    ------
    ThresholdError
        An override names no threshold or is no number; a YAML file contradicts itself.
    """
    raw_thresholds, raw_protocol = _files()
    try:
        thresholds = {name: Threshold.model_validate(value) for name, value in raw_thresholds.items()}
        protocol = {name: ProtocolItem.model_validate(value) for name, value in raw_protocol.items()}
    except ValidationError as error:
        raise ThresholdError(f"thresholds.yaml or protocols.yaml: {error.errors()[0]['msg']}") from error
    for name, value in (overrides or {}).items():
        if name not in thresholds:
            known = ", ".join(sorted(thresholds))
            raise ThresholdError(f"network.yaml overrides the threshold {name!r}, which does not exist; known: {known}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ThresholdError(f"network.yaml: the threshold {name} must be a number")
        thresholds[name] = thresholds[name].with_limit(float(value))
    content = [{n: v.model_dump(mode="json") for n, v in part.items()} for part in (thresholds, protocol)]
    return Limits(thresholds, protocol, sha256_json(content))


def judge(
    measures: Mapping[str, Measure],
    series: Mapping[str, Any],
    limits: Limits,
    notes: Mapping[str, str] | None = None,
) -> Judgement:
    """The verdict on one series.

    Parameters
    ----------
    measures
        By name.
    series
        A row of `raw_imaging__series`.
    notes
        By measure name, what to add to its sentence (along which axis a ghost runs).

    Returns
    -------
    fail when anything is wrong; else undetermined when an essential check has no answer; else pass.
    """
    contrast = series.get("contrast") or "unknown"
    refusal = _phantom(series)
    if refusal is not None:
        return _refused(refusal)
    if contrast not in MEASURED + LOOKED_AT:
        return _decide([], [_why_not_judged(series, contrast)])
    troubles: list[Trouble] = []
    doubts: list[str] = []
    advice: list[Trouble] = []
    for threshold in limits.thresholds.values():
        if contrast not in threshold.contrasts:
            continue
        measure = measures.get(threshold.measure)
        if measure is None or measure.value is None:
            if threshold.is_essential:
                doubts.append(
                    measure.reason.text if measure and measure.reason else f"{threshold.measure} was not measured"
                )
            continue
        if not threshold.is_crossed(measure.value, measures):
            continue
        text = threshold.sentence(measure.value, (notes or {}).get(threshold.measure, ""))
        if threshold.is_refused:
            return _refused(Trouble(threshold.rule, _sentence(text), threshold.action))
        if threshold.is_advisory:
            advice.append(Trouble(threshold.rule, _sentence(text), threshold.action, "warning"))
        elif threshold.only_undetermined:
            doubts.append(text)
        else:
            troubles.append(Trouble(threshold.rule, _sentence(text), threshold.action))
    if contrast in LOOKED_AT:
        return _decide([], ["measures for bold/dwi not available yet"])
    protocol_troubles, protocol_doubts = check_protocol(series, contrast, limits.protocol)
    found = _decide(troubles + _missing_slices(series) + protocol_troubles, doubts + protocol_doubts)
    return Judgement(found.verdict, (*found.troubles, *advice))


def _missing_slices(series: Mapping[str, Any]) -> list[Trouble]:
    missing = series.get("missing_slices_count")
    if not missing:
        return []
    text = f"{missing} slice{'s are' if missing > 1 else ' is'} missing from the series"
    return [Trouble("IMG_MISSING_SLICES", _sentence(text), "Send the whole series again.")]


def _decide(troubles: list[Trouble], doubts: list[str]) -> Judgement:
    unique = list(dict.fromkeys(_sentence(d) for d in doubts))
    reasons = tuple(t.text for t in troubles) + tuple(unique)
    rules = tuple(dict.fromkeys(t.rule_id for t in troubles))
    if troubles:
        return Judgement(Verdict("fail", reasons, rules), tuple(troubles))
    if unique:
        return Judgement(Verdict("undetermined", reasons), ())
    return Judgement(Verdict("pass"), ())


def _refused(trouble: Trouble) -> Judgement:
    return Judgement(
        Verdict("fail", (trouble.text,), (trouble.rule_id,), is_refused=True),
        (trouble,),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _phantom(series: Mapping[str, Any]) -> Trouble | None:
    action = "Leave phantom scans out of patients' deliveries."
    if series.get("is_header_phantom"):
        return Trouble("IMG_PHANTOM", "The header says that this is a phantom", action)
    return None


def _why_not_judged(series: Mapping[str, Any], contrast: str) -> str:
    why = series.get("contrast_reason")
    text = f"measures for the contrast {contrast} are not available yet"
    return f"{text} ({why})" if contrast == "unknown" and why else text


def _header_value(series: Mapping[str, Any], column: str) -> float | None:
    """A header value, or one of the two derived from spacing: the coarser in-plane pixel, the slice thickness."""
    if column == "in_plane_mm":
        return _in_plane(series)
    if column == "slice_mm":
        value = series.get("slice_thickness_mm") or max(_spacings(series), default=None)
        return None if value is None else float(value)
    value = series.get(column)
    return None if value is None else float(value)


def _spacings(series: Mapping[str, Any]) -> list[float]:
    found = (series.get(f"spacing_{axis}_mm") for axis in "xyz")
    return [float(spacing) for spacing in found if spacing is not None]


def _in_plane(series: Mapping[str, Any]) -> float | None:
    """The coarser of the two in-plane spacings.

    The spacings are the converted image's, whose third axis is not the slices' when they are sagittal or coronal: the
    one nearest to the slice thickness is left out, or the largest where the header does not say the thickness.
    """
    known, thickness = _spacings(series), series.get("slice_thickness_mm")
    if len(known) == 3:
        known.remove(max(known) if thickness is None else min(known, key=lambda s: abs(s - thickness)))
    return max(known, default=None)


def check_protocol(
    series: Mapping[str, Any], contrast: str, items: Mapping[str, ProtocolItem]
) -> tuple[list[Trouble], list[str]]:
    """What the header says against the protocol: one trouble naming every departure, and the essential unknowns."""
    broken, doubts = [], []
    for item in items.values():
        if contrast not in item.contrasts or any(series.get(k) != v for k, v in item.when.items()):
            continue
        value = _header_value(series, item.column)
        if value is None:
            if item.is_essential:
                doubts.append(f"the header does not say what the protocol asks of {item.column.removesuffix('_mm')}")
        elif item.is_broken(value):
            broken.append(item.say.format(value=value, limit=item.limit))
    if not broken:
        return [], doubts
    text = f"The scan departs from the protocol for {contrast}: {'; '.join(broken)}"
    return [
        Trouble(
            "IMG_PROTOCOL",
            text,
            "Set the sequence to the network's protocol and repeat it.",
        )
    ], doubts
