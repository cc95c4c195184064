"""The pages that list every check: what it means, what usually causes it, who acts.

Here: `docs/catalogue/checks.md` and one page per rule below `docs/catalogue/rules/`, from the dictionary. Not here:
image measures and thresholds (their own page). Write them with `python -m qa.catalogue`; a test fails when they and the
dictionary drift apart.
"""

from __future__ import annotations

from pathlib import Path

from warehouse import lake
from warehouse.dictionary import Dictionary, Entity, Rule, load_dictionary
from warehouse.dictionary.rules import KINDS

FOLDER = Path(__file__).parent.parent / "docs" / "catalogue"
PAGE = "checks.md"

INTRO = """# Checks of registry variables

Made from `warehouse/dictionary/` (version {version}); change a rule there, then run `python -m qa.catalogue`.

Every rule is one Great Expectations expectation, applied per site to pseudonymous rows. It answers pass, fail or
undetermined (a column is absent, has another type, or a table to compare with was not given); undetermined is never a
finding. A row that breaks an **error** rule is left out of releases until it is corrected. A **warning** leaves the row
in and asks the site to look. Each broken row is a finding with the row's key and the rule's id; it is resolved once a
run no longer finds it. A rule with a threshold is about the site's data as a whole: one finding for the site when more
of its rows than the threshold break it.

Results are kept per rule, site and delivery: rows looked at, rows that break it, the keys of the first of them. Only
rows that no later delivery replaces are counted.

Rules about one value, one row or one table are judged where they stand. Rules about several tables or about one patient
over time are SQL over what is in force: the newest row of each key, without rows that break an error rule. DuckDB runs
them at the site step and not dbt, because a site must hear of them per delivery, before a release is built, and on its
own laptop.

{count} rules.

"""
LEVELS = {
    "field": "one value",
    "row": "one row",
    "table": "one table of one delivery",
    "cross_table": "several tables",
    "longitudinal": "one patient over time",
}


def pages(dictionary: Dictionary | None = None) -> dict[str, str]:
    """Path below `docs/catalogue` -> content: the list of all rules, and a page for each."""
    dictionary = dictionary or load_dictionary()
    made = {PAGE: _list(dictionary)}
    for name, rule in dictionary.rules:
        made[f"rules/{rule.id}.md"] = _page(dictionary.entities[name], rule)
    return made


def _list(dictionary: Dictionary) -> str:
    parts = [INTRO.format(version=dictionary.version, count=len(dictionary.rules))]
    parts.append("## Kinds of rule\n\n| kind | holds when |\n|---|---|\n")
    parts += [f"| {kind} | {told.holds} |\n" for kind, told in KINDS.items()]
    for entity in dictionary.entities.values():
        parts.append(f"\n## {entity.name}\n\n{entity.description}\n\n")
        parts.append("| rule | found when | severity | class | looks at |\n|---|---|---|---|---|\n")
        for rule in entity.all_rules:
            cells = [f"[{rule.id}](rules/{rule.id}.md)", rule.text, rule.severity, rule.quality_class]
            parts.append("| " + " | ".join([*cells, LEVELS[rule.level]]).replace("\n", " ") + " |\n")
    if dictionary.outcome_rules:
        parts.append("\n## Rules that judge no row\n\n| rule | where it is used |\n|---|---|\n")
        parts += [f"| {rule_id} | {text} |\n" for rule_id, text in dictionary.outcome_rules.items()]
    return "".join(parts)


def _page(entity: Entity, rule: Rule) -> str:
    about = ", ".join(f"`{name}`" for name in rule.names(entity))
    told = KINDS[rule.kind]
    lines = [
        f"# {rule.id}",
        f"**Found when** {rule.text}.",
        f"**Usual cause**: {rule.cause or told.cause}",
        f"**Who acts**: {rule.who}. {rule.action}",
        f"**What becomes of the row**: {_fate(rule)}",
        f"**About**: {about or 'the row'} in `{entity.name}`; sees {LEVELS[rule.level]}.",
        f"**Quality class**: {rule.quality_class}. **Severity**: {rule.severity}. **Kind**: {rule.kind}.",
    ]
    if rule.threshold_pct:
        lines.append(f"**Threshold**: {rule.threshold_pct:g} % of the rows looked at.")
    if others := [*rule.tables, *([rule.reference] if rule.reference else [])]:
        lines.append(f"**Compared with**: {', '.join(f'`{name}`' for name in others)}.")
    for column, values in rule.unless.items():
        lines.append(f"**Does not apply** where `{column}` is {', '.join(values)}.")
    if rule.algorithm:
        lines.append(f"**Algorithm**: {rule.algorithm}.")
    if rule.note:
        lines.append(f"**Note**: {rule.note}")
    lines.append(f"**Source**: {rule.source}.")
    if rule.sql:
        lines.append(f"```sql\n{rule.sql.strip()}\n```")
    return "\n\n".join(lines) + "\n"


def _fate(rule: Rule) -> str:
    if rule.is_of_the_site:
        return "nothing; the finding is about the site's rows as a whole."
    if rule.severity == "error":
        return "it is left out of releases until it is corrected."
    return "it stays in releases; the finding stays open until the row is corrected or the data manager accepts it."


def main() -> None:
    """Write every page, and remove those of rules that are no more."""
    made = pages()
    for old in (FOLDER / "rules").glob("*.md"):
        if f"rules/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        lake.write_bytes(FOLDER / name, text.encode())


if __name__ == "__main__":
    main()
