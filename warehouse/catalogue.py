"""What is written from the dictionary and the policy, and never by hand.

Here: which files they are, their comparison with what is there, and the catalogue page `docs/catalogue/variables.md`.
Not here: the text of the dbt files (`warehouse.catalogue_sql`), the models that people write.
`python -m warehouse.catalogue` writes them, `--check` fails when what is there differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from warehouse import catalogue_sql as sql
from warehouse.catalogue_sql import NOTE
from warehouse.dictionary import Dictionary, load_dictionary, range_text, versions
from warehouse.policy import Policy, load_policy

ROOT = Path(__file__).parent.parent
log = logging.getLogger("warehouse.catalogue")


def _variable_rows(dictionary: Dictionary) -> list[str]:
    lines = [
        "# Variables",
        "",
        f"{NOTE}",
        "",
        f"Dictionary version {dictionary.version}. `tier` is the least trusted tier that sees a variable at row level;",
        "a variable of tier `none` is an identifier and ends at the pseudonym table. `standards` are the category of",
        "the MSDA Core Dataset, the CDISC SDTM domain and variable, the class of OMOP concepts. A note says what of",
        "a definition was not read in its source: a network that knows better changes `warehouse/dictionary/`.",
        "",
    ]
    for entity in dictionary.entities.values():
        lines += [f"## {entity.name}", "", entity.description, ""]
        lines += ["| variable | type | unit | allowed | tier | as in registered | definition | source | standards |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for v in entity.variables:
            allowed = ", ".join(f"`{c}` {m}" for c, m in v.codes.items()) if v.codes else range_text(v)
            as_seen = (v.generalise or "as it is") if v.tier in ("registered", "open") else "absent"
            cells = [
                f"`{v.name}`",
                v.type,
                v.unit or "",
                allowed,
                v.tier,
                as_seen,
                v.definition,
                v.source + (f" Note: {v.note}" if v.note else ""),
                "; ".join(standard for standard in (v.msda, v.sdtm, v.omop) if standard),
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return lines + _change_rows()


def _change_rows() -> list[str]:
    """What versions changed in definitions, the newest first."""
    lines = ["## Changed definitions", "", "| version | variable | what changed | values recorded before |"]
    lines.append("|---|---|---|---|")
    for version, notes in reversed(versions.migrations().items()):
        lines += [f"| {version} | `{name}` | {note.change} | {note.migration} |" for name, note in notes.items()]
    return [*lines, ""]


ANONYMITY_YAML = f"""# {NOTE}
version: 2

models:
  - name: core_registered_subject
    description: One row per subject who shares, with what k-anonymity leaves of it for the registered tier.
    data_tests: [{{key: {{arguments: {{columns: [subject_key]}}}}}}]
  - name: core_suppression
    description: One row per file and column, how many cells k-anonymity emptied; the manifest reports it.
    data_tests: [{{key: {{arguments: {{columns: [file, column_name]}}}}}}]
"""


def generated(dictionary: Dictionary, policy: Policy) -> dict[str, str]:
    """Path below the repository -> content, for every generated file."""
    files = {
        "dbt_project/models/staging/_sources.yml": sql.sources(),
        "dbt_project/macros/generated.sql": sql.macros(dictionary, policy),
        "docs/catalogue/variables.md": "\n".join(_variable_rows(dictionary)),
    }
    for entity in dictionary.entities.values():
        files[f"dbt_project/models/staging/registry/stg_registry__{entity.name}.sql"] = sql.staging(entity)
        # What a patient allows is not "the newest good row": core_consent is written by hand and fails closed.
        if entity.name != "consent":
            files[f"dbt_project/models/core/registry/core_{entity.name}.sql"] = sql.core(entity)
        if entity.event_date:
            files[f"dbt_project/models/marts/registry/fct_{entity.name}.sql"] = sql.fact(entity)
    files["dbt_project/models/core/registry/core_registry_mention.sql"] = sql.mentions(dictionary)
    marts = [f"# {NOTE}", "version: 2", "", "models:"]
    for table in policy.tiers["steward"].values():
        marts += sql.model_yaml(table.name, table, None)
    files["dbt_project/models/marts/_marts.yml"] = "\n".join(marts) + "\n"
    anonymity = "dbt_project/models/core/anonymity"
    files[f"{anonymity}/core_registered_subject.sql"] = sql.anonymous_subjects(policy, "registered")
    files[f"{anonymity}/core_suppression.sql"] = sql.suppression("registered")
    files[f"{anonymity}/_anonymity.yml"] = ANONYMITY_YAML
    for tier in ("registered", "open"):
        lines = [f"# {NOTE}", "version: 2", "", "models:"]
        for table in policy.tiers[tier].values():
            lines += sql.model_yaml(f"{tier}__{table.name}", table, table.name)
            files[f"dbt_project/models/tiers/{tier}/{tier}__{table.name}.sql"] = sql.tier_model(table, policy, tier)
        files[f"dbt_project/models/tiers/{tier}/_{tier}.yml"] = "\n".join(lines) + "\n"
    return files


FOLDERS = (
    "models/staging/registry",
    "models/core/registry",
    "models/core/anonymity",
    "models/marts/registry",
    "models/tiers/registered",
    "models/tiers/open",
)


def drift(root: Path = ROOT) -> list[str]:
    """Generated files that are missing, differ, or are no longer generated."""
    files = generated(load_dictionary(), load_policy())
    wrong = [
        name
        for name, text in files.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text
    ]
    there = {str(p.relative_to(root)) for f in FOLDERS for p in (root / "dbt_project" / f).glob("*") if p.is_file()}
    return sorted(wrong) + sorted(there - set(files))


def write(root: Path = ROOT) -> None:
    """Write every generated file, and remove those that are no longer generated."""
    files = generated(load_dictionary(), load_policy())
    for name in drift(root):
        if name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(files[name], encoding="utf-8")
        else:
            (root / name).unlink()


def main(arguments: list[str] | None = None) -> int:
    """Write, or with `--check` compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m warehouse.catalogue", description=__doc__)
    parser.add_argument(
        "--check",
        action="store_true",
        help="only compare; exit 1 when something differs",
    )
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    wrong = drift()
    if chosen.check:
        problems = [f"{name} differs from the dictionary; run: python -m warehouse.catalogue" for name in wrong]
        problems += versions.problems(load_dictionary())
        for problem in problems:
            log.error("%s", problem)
        return 1 if problems else 0
    versions.record(load_dictionary())
    write()
    log.info("%d files written", len(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
