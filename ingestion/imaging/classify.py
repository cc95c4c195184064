"""Which contrast a series has, told from its header by the rules of contrasts.yaml.

Here: facts of a header, the rules over them, and what else words and flags say (derived, contrast agent, phantom). Not
here: the words and limits themselves (contrasts.yaml), or protocol compliance (`qa`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ingestion.imaging.settings import load, names_any, words_of


@dataclass(frozen=True)
class Facts:
    """What a header says, in the terms that rules use. Times in ms, angles in degrees."""

    text: str
    """Description, protocol and sequence names as words."""
    flags: frozenset[str] = frozenset()
    values: dict[str, float] = field(default_factory=dict)
    """te_ms, tr_ms, ti_ms, flip_deg, etl: only those that the header states."""


@dataclass(frozen=True)
class Classification:
    """A contrast of `raw_imaging__series.contrast`, with the reason in words."""

    contrast: str
    reason: str
    is_derived: bool
    is_contrast_enhanced: bool
    is_header_phantom: bool


def facts_of(row: dict[str, Any], highest_b_value: float | None) -> Facts:
    """The facts of one series.

    Parameters
    ----------
    row
        A row of the header index that stands for the series.
    highest_b_value
        Highest b-value of all its images in s/mm2, where stated.
    """
    sequence = (row["sequence_name"] or "").lower()
    names = {
        "te_ms": "echo_time_ms",
        "tr_ms": "repetition_time_ms",
        "ti_ms": "inversion_time_ms",
        "flip_deg": "flip_angle_deg",
        "etl": "echo_train_length",
    }
    values = {name: row[column] for name, column in names.items() if row[column] is not None}
    text = words_of(row["series_description"] or "", row["protocol_name"] or "", sequence)
    return Facts(text, _type_flags(row) | _sequence_flags(row, highest_b_value), values)


def _type_flags(row: dict[str, Any]) -> frozenset[str]:
    """What image type and component say."""
    parts = set((row["image_type"] or "").split("\\"))
    flags = set()
    if "LOCALIZER" in parts:
        flags.add("localizer_image_type")
    if parts & {
        "ADC",
        "FA",
        "TRACEW",
        "EXP_ADC",
        "T1 MAP",
        "T2 MAP",
        "T2_STAR MAP",
        "B0 MAP",
        "B1",
        "MTRA",
        "ASL",
        "CBF",
    }:
        flags.add("map_image_type")
    if row["component"] != "magnitude":
        flags.add("phase_image")
    if row["angio_flag"]:
        flags.add("angio_flag")
    if "FMRI" in parts:
        flags.add("fmri_image_type")
    if is_derived(row):
        flags.add("derived")
    return frozenset(flags)


def _sequence_flags(row: dict[str, Any], highest_b_value: float | None) -> frozenset[str]:
    """What the pulse sequence's tags say."""
    parts = set((row["image_type"] or "").split("\\"))
    scanning = set((row["scanning_sequence"] or "").split("\\"))
    variant = set((row["sequence_variant"] or "").split("\\"))
    sequence = (row["sequence_name"] or "").lower()
    flags = set()
    if (
        row["is_epi"]
        or re.match(r"\*?(ep|epfid|epse|ep2d|ep_b)", sequence)
        or "EPI_GEMS" in (row["scan_options"] or "")
    ):
        flags.add("echo_planar")
    # A stray b-value near zero is no diffusion weighting: Philips states 0 in any image.
    if (highest_b_value or 0) > 20 or "DIFFUSION" in parts or re.search(r"\bep_?b\d", sequence.replace("*", "")):
        flags.add("diffusion")
    if "GR" in scanning:
        flags.add("gradient_echo")
    if "SE" in scanning:
        flags.add("spin_echo")
    if "MP" in variant or "IR" in scanning:
        flags.add("prepared")
    if row["is_spoiled"]:
        flags.add("spoiled")
    return frozenset(flags)


def is_derived(row: dict[str, Any]) -> bool:
    """Whether the image was computed from others, by its image type or its description."""
    rules = load("contrasts.yaml")
    text = words_of(row["series_description"] or "")
    if names_any(text, rules["derived_words"]):
        return True
    if (row["model"] or "") in rules["derived_flag_means_nothing"]["models"]:
        return False
    return (row["image_type"] or "").startswith("DERIVED")


def _within(limits: list[float | None], value: float) -> bool:
    low, high = limits
    return (low is None or value >= low) and (high is None or value <= high)


def _fits(rule: dict[str, Any], facts: Facts) -> bool:
    for condition, asked in rule.items():
        if condition in ("contrast", "reason"):
            continue
        if condition == "words":
            holds = names_any(facts.text, asked)
        elif condition == "not_words":
            holds = not names_any(facts.text, asked)
        elif condition == "is":
            holds = facts.flags >= set(asked)
        elif condition == "is_not":
            holds = not facts.flags & set(asked)
        elif condition.endswith("_or_missing"):
            value = facts.values.get(condition.removesuffix("_or_missing"))
            holds = value is None or _within(asked, value)
        else:
            holds = condition in facts.values and _within(asked, facts.values[condition])
        if not holds:
            return False
    return True


def contrast_of(facts: Facts) -> tuple[str, str]:
    """(contrast, reason) by the first rule that fits."""
    rules = load("contrasts.yaml")
    for rule in rules["rules"]:
        if _fits(rule, facts):
            return rule["contrast"], rule["reason"]
    return "unknown", rules["unknown_reason"]


def classify(row: dict[str, Any], highest_b_value: float | None) -> Classification:
    """Classify a DICOM series from the index row that stands for it."""
    rules = load("contrasts.yaml")
    contrast, reason = contrast_of(facts_of(row, highest_b_value))
    description = words_of(row["series_description"] or "", row["protocol_name"] or "")
    agent = (row["contrast_agent"] or "").strip().lower() not in rules["no_agent"]
    says_agent = names_any(description, rules["contrast_agent_words"])
    says_none = names_any(description, rules["contrast_agent_not_words"])
    everything = words_of(
        *(row[name] or "" for name in ("series_description", "protocol_name", "study_description", "body_part")),
        *(row[name] or "" for name in ("patient_name", "patient_id")),
    )
    return Classification(
        contrast,
        reason,
        is_derived(row),
        (agent or says_agent) and not says_none,
        names_any(everything, rules["phantom_words"]),
    )


def classify_name(name: str) -> tuple[str, str, bool]:
    """(contrast, reason, whether contrast enhanced) of a NIfTI file by its name without the ending."""
    text = words_of(name)
    for rule in load("contrasts.yaml")["nifti_names"]:
        if names_any(text, rule["words"]):
            return rule["contrast"], "the file name says so", bool(rule.get("contrast_enhanced"))
    return "unknown", "the file name does not say which contrast this is", False
