"""The SQL and YAML that the dictionary and the policy make for dbt.

Here: the text of sources, staging, core, fact and tier models, contracts and column lists. Not here: where the files
go, and whether what is there differs (`warehouse.catalogue`).
"""

from __future__ import annotations

import re

from warehouse.dictionary import Dictionary, Entity, range_text
from warehouse.policy import Column, Policy, Table
from warehouse.tables import LAKE_TABLES

NOTE = "Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead."


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def sql_of(column: Column, relation: str = "") -> str:
    """The expression that makes a tier's column of the mart's column in `relation`."""
    source = f"{relation}.{column.source}" if relation else column.source
    event = f"{relation}.{column.event_date}"
    expression = {
        "keep": source,
        "year": f"extract(year from {source})",
        "month": f"strftime({source}, '%Y-%m')",
        "shift": f"{{{{ shifted('{source}', 'person.shift_days') }}}}",
        "shift_to_day": f"{{{{ shifted('{source}::date', 'person.shift_days') }}}}",
        "round_half": f"round({source} * 2) / 2",
        "top_code": f"{{{{ top_coded('{source}', {column.top_code}) }}}}",
        "coarse_age": f"{{{{ age_band('person.birth_anchor', '{event}') }}}}",
        "merge_rare": f"{{{{ rare_merged('{source}', '{relation}.subject_key', rare_maximum()) }}}}",
        "pseudonym": f"{column.source}_of.project_key",
        "blur_site": f"{{{{ rare_merged('site_of.project_key', '{relation}.subject_key', rare_maximum()) }}}}",
        "redact": f"{{{{ redacted('{source}') }}}}",
        "unless_small": f"{{{{ unless_small('{source}') }}}}",
    }[column.how]
    return f"cast({expression} as {column.type}) as {column.name}"


JINJA = re.compile(r"\{\{ (.*?) \}\}")


def _in_jinja(text: str) -> str:
    """SQL with `{{ macro }}` calls as one Jinja expression: `"a " ~ macro ~ " b"`."""
    parts = JINJA.split(text)
    pieces = [_quoted(part) if number % 2 == 0 else part for number, part in enumerate(parts) if part]
    return " ~ ".join(pieces)


def _person_columns(policy: Policy, tier: str) -> list[Column]:
    """Columns of `dim_subject` that k-anonymity may empty, in the order of the policy."""
    rule = policy.rules[tier]
    by_name = {c.name: c for c in policy.tiers[tier]["dim_subject"].columns}
    return [by_name[name] for name in (*rule.suppress_first, *rule.sensitive)]


def _tier_column(column: Column, tier: str, taken: set[str], relation: str = "source") -> str:
    """`sql_of` for a table with a row per person: what k-anonymity decides is taken from `person`."""
    if column.name in taken:
        sql = f"cast(person.{column.name} as {column.type}) as {column.name}"
    else:
        sql = sql_of(column, relation)
    if tier != "registered" or column.disclosure not in ("quasi", "sensitive"):
        return sql
    expression = sql.removeprefix("cast(").removesuffix(f" as {column.type}) as {column.name}")
    held = f"{{{{ held('{tier}', '{column.disclosure}', {_in_jinja(expression)}) }}}}"
    return f"cast({held} as {column.type}) as {column.name}"


def tier_model(table: Table, policy: Policy, tier: str) -> str:
    """A table of `registered` or `open`, made of its mart."""
    if not table.is_personal:
        columns = ",\n    ".join(sql_of(column) for column in table.columns)
        return (
            f"{{# {NOTE} #}}\n"
            f"with source as (\n    select * from {{{{ ref('{table.source}') }}}}\n)\n\n"
            f"select\n    {columns}\nfrom source\n"
        )
    taken = {c.name for c in _person_columns(policy, tier)} if table.name == "dim_subject" else set()
    columns = ",\n    ".join(_tier_column(column, tier, taken) for column in table.columns)
    return (
        f"{{# {NOTE} #}}\n"
        f"with source as (\n    select * from {{{{ ref('{table.source}') }}}} where is_shared\n),\n\n"
        f"person as (\n    select * from {{{{ ref('core_{tier}_subject') }}}} where is_kept\n)\n\n"
        f"select\n    {columns}\nfrom source\n"
        "inner join person\n    on source.subject_key = person.subject_key\n"
        # Rows as the sites sent them would tell which belong to one site.
        f"order by {', '.join(table.key)}\n"
    )


def anonymous_subjects(policy: Policy, tier: str) -> str:
    """`core_<tier>_subject`: the subjects of a tier with what k-anonymity leaves of them."""
    columns = _person_columns(policy, tier)
    selected = ",\n        ".join(sql_of(column, "subject") for column in columns)
    return (
        f"{{# {NOTE} #}}\n"
        f"{{%- set rule = fromjson(env_var('RANVIER_POLICY')).{tier} -%}}\n"
        f"with person as (\n    select\n        subject.subject_key,\n        subject.birth_date,\n        {selected}\n"
        "    from {{ ref('dim_subject') }} as subject\n"
        "    where subject.is_shared and {{ rule.row_level }}\n),\n\n"
        "{{ anonymity_steps(rule.quasi, rule.sensitive, rule.k, rule.l) }}\n\n"
        "select\n    anonymous.*,\n    {{ birth_anchor('person.birth_date', 'anonymous.age_at_onset_band') }}"
        " as birth_anchor\n"
        "from anonymous\ninner join person\n    on anonymous.subject_key = person.subject_key\n"
    )


def model_yaml(model: str, table: Table, alias: str | None) -> list[str]:
    """Contract, key test and descriptions of a model, as lines of YAML."""
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
    if column.how == "merge_rare":
        text += " Codes of few subjects are other."
    if column.how == "coarse_age":
        text += " Reckoned from a birth year known to five years."
    if column.how == "unless_small":
        text += " Empty where few subjects stand behind it."
    variable = column.variable
    if variable and variable.unit:
        text += f" Unit: {variable.unit}."
    if variable and range_text(variable):
        text += f" Allowed: {range_text(variable)}."
    return text


def sources() -> str:
    """`_sources.yml`: the tables of the lake and the reference tables."""
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
        "      - {name: dmt, description: Disease-modifying treatments of the dictionary.}",
    ]
    return "\n".join(lines) + "\n"


def _kept(is_given_in_unit_tests: bool) -> str:
    """dbt can stand rows of a test only in for a model that exists in the database; the others cost nothing there."""
    return "{{ config(materialized='view') }}\n" if is_given_in_unit_tests else ""


def staging(entity: Entity) -> str:
    """`stg_registry__<entity>`: every row of the accepted deliveries, and whether a rule refuses it."""
    return (
        f"{{# {NOTE} #}}\n{_kept(entity.name == 'consent')}"
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


def core(entity: Entity) -> str:
    """`core_<entity>`: of the rows that share a key, the newest good one."""
    key = ", ".join(["subject_key", *entity.key])
    return (
        f"{{# {NOTE}\n   A key that stands once needs no choice: keys are counted by their hash, and only rows whose"
        " hash stands twice are\n   sorted. Never stored, because writing the rows costs more than choosing them"
        f" again. #}}\n{_kept(entity.name == 'patient')}"
        "with staged as not materialized (\n"
        f"    select * exclude (is_refused)\n    from {{{{ ref('stg_registry__{entity.name}') }}}}\n"
        "    where not is_refused\n        and subject_key is not null\n),\n\n"
        f"repeated as (\n    select hash({key}) as key_hash\n    from staged\n    group by 1\n"
        "    having count(*) > 1\n)\n\n"
        f"select staged.*\nfrom staged\nanti join repeated\n    on hash({key}) = repeated.key_hash\n"
        "union all\n(\n    select staged.*\n    from staged\n    semi join repeated\n"
        f"        on hash({key}) = repeated.key_hash\n"
        f"    qualify row_number() over (\n        partition by {key}\n        "
        "order by sequence_number desc, source_row desc, row_key\n    ) = 1\n)\n"
    )


def fact(entity: Entity) -> str:
    """`fct_<entity>`: one row per event, counted within the subject, with the age at it."""
    name, day = entity.name, entity.event_date
    order = ", ".join(dict.fromkeys([str(day), *entity.key, f"{name}.row_key"]))
    return (
        f"{{# {NOTE} #}}\n"
        f"with {name} as (\n    select * from {{{{ ref('core_{name}') }}}}\n),\n\n"
        "subject as (\n    select * from {{ ref('core_subject') }}\n),\n\n"
        "final as (\n    select\n"
        f"        {name}.row_key,\n        {name}.source_row,\n        {name}.subject_key,\n"
        f"        row_number() over (\n            partition by {name}.subject_key\n            order by {order}\n"
        f"        ) as {entity.number_column},\n"
        f"        {{{{ variables_of('{name}', '{name}') }}}},\n"
        f"        {{{{ age_band('subject.birth_date', '{name}.{day}') }}}} as age_band,\n"
        f"        {{{{ age_years('subject.birth_date', '{name}.{day}') }}}} as age_years,\n"
        f"        {name}.site_code,\n        {name}.delivery_key,\n"
        "        '{{ env_var('RANVIER_VERSION') }}' as release_version,\n        subject.is_shared\n"
        f"    from {name}\n    inner join subject\n        on {name}.subject_key = subject.subject_key\n)\n\n"
        f"select\n    {{{{ columns_of('fct_{name}') }}}}\nfrom final\n"
    )


def mentions(dictionary: Dictionary) -> str:
    """`core_registry_mention`: of which subjects the tables beside patient and consent speak, in which delivery."""
    selects = [
        f"select distinct subject_key, site_code, delivery_key, sequence_number\nfrom {{{{ ref('core_{name}') }}}}\n"
        for name in dictionary.entities
        if name not in ("patient", "consent")
    ]
    return f"{{# {NOTE} #}}\n{_kept(True)}" + "union all\n".join(selects)


def suppression(tier: str) -> str:
    """`core_suppression`: how much k-anonymity emptied."""
    return (
        f"{{# {NOTE} #}}\n"
        f"{{%- set rule = fromjson(env_var('RANVIER_POLICY')).{tier} -%}}\n"
        f"{{{{ suppression_counts('{tier}.duckdb', ref('core_{tier}_subject'), rule.quasi + rule.sensitive) }}}}\n"
    )


def _project_column(column: Column, taken: set[str], relation: str) -> str:
    """`sql_of` for a project's file; an age is told only of subjects whose age at onset is."""
    sql = _tier_column(column, "controlled", taken, relation)
    if column.how != "top_code":
        return sql
    return sql.replace("cast(", "cast(case when person.age_at_onset_band is not null then ", 1).replace(
        f" as {column.type})", f" end as {column.type})", 1
    )


def macros(dictionary: Dictionary, policy: Policy) -> str:
    """`generated.sql`: what hand-written models need of the dictionary and the policy."""
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
    events = ", ".join(f"('{n}', 'fct_{n}')" for n in dictionary.entities if n not in ("patient", "consent"))
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
        "{# Tables of the registry with a row per event, as (table of the dictionary, mart). #}",
        "{% macro event_tables() -%}",
        f"    {{{{ return([{events}]) }}}}",
        "{%- endmacro %}",
        "",
        "{% macro site_tables() -%}",
        "    {%- set tables = [",
    ]
    for table in policy.tiers["site"].values():
        columns = ", ".join(_in_jinja(sql_of(c)) for c in table.columns)
        where = {
            "all": "",
            "own": "own",
            "own_shared": "own_shared",
            "shared": "shared",
        }[table.rows]
        lines.append(f'        ("{table.name}", "{table.source}", "{where}", [{columns}]),')
    lines += ["    ] -%}", "    {{ return(tables) }}", "{%- endmacro %}", ""]
    lines += [
        "{# Per table of a project's file: name, mart, consent scope it needs, whether it has a row per person, (name,",
        "   class, SQL) of each column, keys that are pseudonyms. #}",
        "{% macro project_tables() -%}",
        "    {%- set tables = [",
    ]
    for table in policy.tiers["controlled"].values():
        taken = {c.name for c in _person_columns(policy, "controlled")} if table.name == "dim_subject" else set()
        relation = "source" if table.is_personal else ""
        columns = ", ".join(
            f'("{c.name}", "{c.disclosure}", {_in_jinja(_project_column(c, taken, relation))})' for c in table.columns
        )
        keys = [c.source for c in table.columns if c.how == "pseudonym"]
        personal = str(table.is_personal).lower()
        lines.append(
            f'        ("{table.name}", "{table.source}", "{table.scope or ""}", {personal}, [{columns}], {keys!r}),'
        )
    quasi = ", ".join(_quoted(sql_of(c, "subject")) for c in _person_columns(policy, "controlled"))
    lines += [
        "    ] -%}",
        "    {{ return(tables) }}",
        "{%- endmacro %}",
        "",
        "{% macro project_person_columns() -%}",
        f"    {{{{ return([{quasi}]) }}}}",
        "{%- endmacro %}",
        "",
    ]
    lines += [
        "{% macro wide_measures() -%}",
        f"    {{{{ return({list(policy.wide_measures)!r}) }}}}",
        "{%- endmacro %}",
    ]
    return "\n".join(lines) + "\n"
