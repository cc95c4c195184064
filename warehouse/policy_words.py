"""The policy in words: what a tier holds and why, and how two policies differ.

Here: sentences and rows for a reader. Not here: reading or choosing a policy (`warehouse.policy`), printing.
"""

from __future__ import annotations

from typing import Any

from warehouse.policy import ROW_LEVEL, WHY_NOT, Column, Policy, preset_names

__all__ = ["as_data", "column_words", "differences", "preset_names", "rule_words"]

DATE_WORDS = {
    "exact": "exact dates",
    "year": "years instead of dates",
    "month": "months instead of dates",
    "shift": "dates shifted per subject and project, days between them kept",
}
HOW_WORDS = {
    "keep": "as it is",
    "year": "year only",
    "month": "month only",
    "shift": "shifted per subject and project",
    "shift_to_day": "day, shifted per subject and project",
    "round_half": "rounded to 0.5",
    "coarse_age": "age band, from a birth year known to five years",
    "pseudonym": "key of the project's own",
    "redact": "small counts empty, others rounded",
    "unless_small": "empty where few subjects stand behind it",
}


def _how_words(column: Column, policy: Policy, tier: str) -> str:
    small = policy.small_count_maximum
    words = {
        "top_code": f"{column.top_code} and above are one group",
        "merge_rare": f"codes of {small} subjects or fewer are other",
        "blur_site": f"label of the project's own; sites of {small} subjects or fewer are other",
    } | HOW_WORDS
    text = words[column.how]
    rule = policy.rules[tier]
    if tier in ROW_LEVEL and column.name in (*rule.suppress_first, *rule.sensitive_held):
        text += f"; emptied until k = {rule.k}" + (f", l = {rule.l}" if rule.sensitive_held else "")
    return text


def _why(column: Column) -> str:
    return f"{WHY_NOT[column.disclosure]} ({'dictionary' if column.variable else 'marts.yaml'})"


def rule_words(policy: Policy, tier: str) -> list[str]:
    """What holds for a tier as a whole, a sentence a line."""
    rule = policy.rules[tier]
    lines = [policy.descriptions[tier], f"Classes: {', '.join(rule.classes)}."]
    if tier == "open" or tier in ROW_LEVEL:
        bands = policy.age_bands
        lines.append(
            f"Counts of {policy.small_count_maximum} or fewer are empty, others rounded to {policy.rounding}; "
            f"age bands of {bands.width} years from {bands.first} to {bands.last}."
        )
    if tier not in ROW_LEVEL:
        return lines
    if not rule.row_level:
        return [*lines, "No row of a person."]
    lines.append(f"Dates: {DATE_WORDS[rule.dates]}. Images: {rule.images}; no tier holds a scan.")
    diverse = f" and {rule.l} values of {', '.join(rule.sensitive_held)}" if rule.sensitive_held and rule.l > 1 else ""
    lines.append(
        f"At least {rule.k} subjects{diverse} show the same {', '.join(reversed(rule.suppress_first))}; "
        f"{rule.suppress_first[0]} is given up first."
    )
    if tier == "controlled":
        lines.append(f"A project may ask for: {', '.join(policy.consent_scopes)}.")
    return lines


def column_words(policy: Policy, tier: str) -> list[tuple[str, str, str, str, str]]:
    """(table, column, class, what becomes of it, why) for every column of a tier."""
    return [
        (table.name, column.name, column.disclosure, _how_words(column, policy, tier), _why(column))
        for table in policy.tiers[tier].values()
        for column in table.columns
    ]


def as_data(policy: Policy, tier: str | None = None) -> dict[str, Any]:
    """The same for a script."""
    names = ("table", "column", "class", "what_becomes_of_it", "why")
    return {
        "preset": policy.preset,
        "tiers": {
            name: {
                "who": policy.rules[name].who,
                "rules": rule_words(policy, name),
                "columns": [dict(zip(names, row, strict=True)) for row in column_words(policy, name)],
            }
            for name in ([tier] if tier else policy.tiers)
        },
    }


def differences(before: Policy, after: Policy) -> list[str]:
    """What another policy changes, a sentence a line; nothing where they do the same."""
    lines = []
    if before.small_count_maximum != after.small_count_maximum:
        lines.append(
            f"open: counts of {after.small_count_maximum} or fewer are empty, instead of {before.small_count_maximum}."
        )
    if before.rounding != after.rounding:
        lines.append(f"open: counts are rounded to {after.rounding}, instead of {before.rounding}.")
    if before.age_bands != after.age_bands:
        old, new = before.age_bands, after.age_bands
        lines.append(
            f"every tier: age bands of {new.width} years from {new.first} to {new.last}, "
            f"instead of {old.width} years from {old.first} to {old.last}."
        )
    for tier in ROW_LEVEL:
        old_rule, new_rule = before.rules[tier], after.rules[tier]
        if old_rule.row_level != new_rule.row_level:
            word = "has rows of persons again" if new_rule.row_level else "has no row of a person any more"
            lines.append(f"{tier}: it {word}.")
        for name in ("k", "l"):
            old_value, new_value = getattr(old_rule, name), getattr(new_rule, name)
            if old_value != new_value:
                lines.append(f"{tier}: {name} is {new_value}, instead of {old_value}.")
        for table in sorted({*before.tiers[tier], *after.tiers[tier]}):
            had = {c.name for c in before.tiers[tier][table].columns}
            has = {c.name for c in after.tiers[tier][table].columns}
            if lost := sorted(had - has):
                lines.append(f"{tier}: {table} loses {', '.join(lost)}.")
            if gained := sorted(has - had):
                lines.append(f"{tier}: {table} gains {', '.join(gained)}.")
    return lines
