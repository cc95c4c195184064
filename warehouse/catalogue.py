"""What is written from the dictionary and the policy, and never by hand.

Here: the dbt sources, contracts, column lists, tier models and site tables in `dbt_project/`, and the catalogue page
`docs/catalogue/variables.md`. Not here: the models that people write. `python -m warehouse.catalogue` writes them,
`--check` fails when what is there differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from warehouse.dictionary import Dictionary, Entity, load_dictionary, range_text
from warehouse.policy import Column, Policy, Table, load_policy
from warehouse.tables import LAKE_TABLES

ROOT = Path(__file__).parent.parent
NOTE = "Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead."
log = logging.getLogger("warehouse.catalogue")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def sql_of(column: Column) -> str:
    """The expression that makes a tier's column of the mart's."""
    source = column.source
    expression = {
        "keep": source,
        "year": f"extract(year from {source})",
        "round_half": f"round({source} * 2) / 2",
        "redact": f"{{{{ redacted('{source}') }}}}",
        "unless_small": f"{{{{ unless_small('{source}') }}}}",
    }[column.how]
    return f"cast({expression} as {column.type}) as {column.name}"


def _where(table: Table) -> str:
    return {"all": "", "shared": "where is_shared", "own": "", "own_shared": ""}[table.rows]


def _tier_model(table: Table) -> str:
    columns = ",\n    ".join(sql_of(column) for column in table.columns)
    where = _where(table)
    return (
        f"{{# {NOTE} #}}\n"
        f"with source as (\n    select * from {{{{ ref('{table.source}') }}}}\n)\n\n"
        f"select\n    {columns}\nfrom source\n" + (f"{where}\n" if where else "")
    )


def _model_yaml(model: str, table: Table, alias: str | None) -> list[str]:
    lines = [
        f"  - name: {model}",
        f"    description: {_quoted(table.description)}",
        "    config:",
    ]
    if alias:
        lines.append(f"      alias: {alias}")
    lines += ["      contract: {enforced: true}", "    data_tests:"]
    lines += [
        "      - key:",
        "          arguments:",
        f"            columns: [{', '.join(table.key)}]",
        "    columns:",
    ]
    for column in table.columns:
        lines.append(f"      - name: {column.name}")
        lines.append(f"        data_type: {column.type}")
        lines.append(f"        description: {_quoted(described(column))}")
    return lines


def described(column: Column) -> str:
    """Meaning of a tier's column, with what its tier did to it, its unit and its range."""
    text = column.description
    if column.how == "redact":
        text += " Small counts are empty, the others rounded."
    if column.how == "unless_small":
        text += " Empty where few subjects stand behind it."
    variable = column.variable
    if variable and variable.unit:
        text += f" Unit: {variable.unit}."
    if variable and range_text(variable):
        text += f" Allowed: {range_text(variable)}."
    return text


def _sources() -> str:
    lines = [f"# {NOTE}", "version: 2", "", "sources:"]
    groups: dict[str, list[str]] = {}
    for name in LAKE_TABLES:
        groups.setdefault(name.split("__")[0], []).append(name)
    # dagster and dbt know a source by (source name, table name); the table names are the lake's folders.
    for group, names in sorted(groups.items()):
        lines += [
            f"  - name: {group}",
            "    config:",
            "      meta:",
            "        external_location: >-",
        ]
        lines.append(
            "          read_parquet('{{ env_var('RANVIER_LAKE') }}/{name}/*/*.parquet', union_by_name = true,"
            " hive_partitioning = false)"
        )
        lines.append("    tables:")
        for name in names:
            lines += [
                f"      - name: {name}",
                f"        description: {_quoted(LAKE_TABLES[name].description)}",
            ]
    lines += [
        "  - name: reference",
        "    config:",
        "      meta:",
        "        external_location: >-",
        "          read_parquet('{{ env_var('RANVIER_REFERENCE') }}/{name}.parquet')",
        "    tables:",
        "      - {name: site, description: Sites of network.yaml.}",
        "      - {name: variable, description: Variables of the dictionary.}",
    ]
    return "\n".join(lines) + "\n"


def _staging(entity: Entity) -> str:
    return (
        f"{{# {NOTE} #}}\n"
        f"with source as (\n    select * from {{{{ source('raw_registry', 'raw_registry__{entity.name}') }}}}\n),\n\n"
        "accepted as (\n    select * from {{ ref('stg_lake__accepted') }}\n),\n\n"
        "refused as (\n    select distinct\n        site_code,\n        row_key\n"
        "    from {{ source('raw_qa', 'raw_qa__refused_row') }}\n"
        f"    where entity = '{entity.name}'\n)\n\n"
        "select\n    source.*,\n    accepted.sequence_number,\n    refused.row_key is not null as is_refused\n"
        "from source\ninner join accepted\n    on source.site_code = accepted.site_code\n"
        "    and source.delivery_key = accepted.delivery_key\nleft join refused\n"
        "    on source.site_code = refused.site_code\n    and source.row_key = refused.row_key\n"
    )


def _core(entity: Entity) -> str:
    key = ", ".join(["subject_key", *entity.key])
    return (
        f"{{# {NOTE} #}}\n"
        f"with staged as (\n    select * from {{{{ ref('stg_registry__{entity.name}') }}}}\n)\n\n"
        "select * exclude (is_refused)\nfrom staged\nwhere not is_refused\n    and subject_key is not null\n"
        f"qualify row_number() over (\n    partition by {key}\n    "
        "order by sequence_number desc, source_row desc, row_key"
        "\n"
        ") = 1\n"
    )


def _macros(dictionary: Dictionary, policy: Policy) -> str:
    lines = [
        f"{{# {NOTE} #}}",
        "{% macro columns_of(mart) -%}",
        "    {%- set columns = {",
    ]
    for table in policy.tiers["steward"].values():
        casts = ", ".join(_quoted(f"cast({c.source} as {c.type}) as {c.name}") for c in table.columns)
        lines.append(f'        "{table.name}": [{casts}],')
    lines += [
        "    } -%}",
        "    {{ columns[mart] | join(',\\n    ') }}",
        "{%- endmacro %}",
        "",
    ]
    lines += [
        "{% macro variables_of(entity, relation) -%}",
        "    {%- set variables = {",
    ]
    for entity in dictionary.entities.values():
        names = ", ".join(f'"{v.name}"' for v in entity.stored_variables)
        lines.append(f'        "{entity.name}": [{names}],')
    lines += [
        "    } -%}",
        "    {%- for name in variables[entity] -%}",
        "        {{ relation }}.{{ name }}{{ ',\\n        ' if not loop.last }}",
        "    {%- endfor -%}",
        "{%- endmacro %}",
        "",
        "{% macro site_tables() -%}",
        "    {%- set tables = [",
    ]
    for table in policy.tiers["site"].values():
        columns = ", ".join(
            _quoted(sql_of(c)).replace('"cast({{ ', '"cast(" ~ ').replace(" }} as", ' ~ " as') for c in table.columns
        )
        where = {
            "all": "",
            "own": "own",
            "own_shared": "own_shared",
            "shared": "shared",
        }[table.rows]
        lines.append(f'        ("{table.name}", "{table.source}", "{where}", [{columns}]),')
    lines += ["    ] -%}", "    {{ return(tables) }}", "{%- endmacro %}", ""]
    lines += [
        "{% macro wide_measures() -%}",
        f"    {{{{ return({list(policy.wide_measures)!r}) }}}}",
        "{%- endmacro %}",
    ]
    return "\n".join(lines) + "\n"


def _variable_rows(dictionary: Dictionary) -> list[str]:
    lines = [
        "# Variables",
        "",
        f"{NOTE}",
        "",
        f"Dictionary version {dictionary.version}. `tier` is the least trusted tier that sees a variable at row level;",
        "a variable of tier `none` is an identifier and ends at the pseudonym table.",
        "",
    ]
    for entity in dictionary.entities.values():
        lines += [f"## {entity.name}", "", entity.description, ""]
        lines += ["| variable | type | unit | allowed | tier | as in registered | definition | source |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
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
                v.source,
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return lines


def generated(dictionary: Dictionary, policy: Policy) -> dict[str, str]:
    """Path below the repository -> content, for every generated file."""
    files = {
        "dbt_project/models/staging/_sources.yml": _sources(),
        "dbt_project/macros/generated.sql": _macros(dictionary, policy),
        "docs/catalogue/variables.md": "\n".join(_variable_rows(dictionary)),
    }
    for entity in dictionary.entities.values():
        files[f"dbt_project/models/staging/registry/stg_registry__{entity.name}.sql"] = _staging(entity)
        # What a patient allows is not "the newest good row": core_consent is written by hand and fails closed.
        if entity.name != "consent":
            files[f"dbt_project/models/core/registry/core_{entity.name}.sql"] = _core(entity)
    marts = [f"# {NOTE}", "version: 2", "", "models:"]
    for table in policy.tiers["steward"].values():
        marts += _model_yaml(table.name, table, None)
    files["dbt_project/models/marts/_marts.yml"] = "\n".join(marts) + "\n"
    for tier in ("registered", "open"):
        lines = [f"# {NOTE}", "version: 2", "", "models:"]
        for table in policy.tiers[tier].values():
            lines += _model_yaml(f"{tier}__{table.name}", table, table.name)
            files[f"dbt_project/models/tiers/{tier}/{tier}__{table.name}.sql"] = _tier_model(table)
        files[f"dbt_project/models/tiers/{tier}/_{tier}.yml"] = "\n".join(lines) + "\n"
    return files


FOLDERS = (
    "models/staging/registry",
    "models/core/registry",
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
        for name in wrong:
            log.error(
                "%s differs from the dictionary; run: python -m warehouse.catalogue",
                name,
            )
        return 1 if wrong else 0
    write()
    log.info("%d files written", len(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
