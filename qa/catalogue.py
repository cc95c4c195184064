"""The page that lists every check: what it means, why it is asked, who acts.

Here: `docs/catalogue/checks.md` from the dictionary's rules. Not here: image measures and thresholds (their own page).
Write it with `python -m qa.catalogue`; a test fails when the page and the dictionary drift apart.
"""

from __future__ import annotations

from pathlib import Path

from warehouse import lake
from warehouse.dictionary import Dictionary, Rule, load_dictionary

PAGE = Path(__file__).parent.parent / "docs" / "catalogue" / "checks.md"

KINDS = {
    "range": "The value lies in its range and on its steps; an empty value passes.",
    "not_null": "The value is given.",
    "ordered": "Two dates are in order; an empty one passes.",
    "together": "Two values are both given or both empty.",
    "unique": "The key stands once in a delivery; the first row stays, those after it break the rule.",
    "minimum_gap": "Two dates of one patient are far enough apart; an equal date is the same event sent again.",
    "in_reference": "The date is not before the date that a reference table holds; an unknown code passes.",
    "exists": "The patient stands in another table, in this delivery or an earlier one.",
}
INTRO = """# Checks of registry variables

Made from `warehouse/dictionary/` (version {version}); change a rule there, then run `python -m qa.catalogue`.

Every rule is one Great Expectations expectation, applied per site to pseudonymous rows. It answers pass, fail or
undetermined (a column is absent, has another type, or a table to compare with was not given); undetermined is never a
finding. A row that breaks an **error** rule is left out of releases until it is corrected. A **warning** leaves the row
in and asks the site to look. Each broken row is a finding with the row's key and the rule's id; it is resolved once a
run no longer finds it.

{count} rules.

"""


def checks_page(dictionary: Dictionary | None = None) -> str:
    """The page as Markdown: one part per registry table, one entry per rule."""
    dictionary = dictionary or load_dictionary()
    parts = [INTRO.format(version=dictionary.version, count=len(dictionary.rules))]
    parts.append("## Kinds of rule\n\n| kind | holds when |\n|---|---|\n")
    parts += [f"| {kind} | {text} |\n" for kind, text in KINDS.items()]
    for entity in dictionary.entities.values():
        parts.append(f"\n## {entity.name}\n\n{entity.description}\n")
        parts += [_entry(rule) for rule in entity.all_rules]
    return "".join(parts)


def _entry(rule: Rule) -> str:
    about = ", ".join(f"`{name}`" for name in [rule.column, rule.other, *rule.columns] if name)
    lines = [
        f"- **Found when**: {rule.text}.",
        f"- **Who acts**: registry staff of the site. {rule.action}",
        f"- **Severity**: {rule.severity}; quality class {rule.quality_class}; kind {rule.kind}; about {about}.",
    ]
    if rule.reference:
        lines.append(f"- **Compared with**: `{rule.reference}`.")
    for column, values in rule.unless.items():
        lines.append(f"- **Does not apply** where `{column}` is {', '.join(values)}.")
    lines.append(f"- **Source**: {rule.source}.")
    return f"\n### {rule.id}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    lake.write_bytes(PAGE, checks_page().encode())
