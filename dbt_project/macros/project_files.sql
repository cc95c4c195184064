{# One file per approved project, at the end of the same build. Projects are data, so these files cannot be models; their
   tables and columns come from the policy (`project_tables`), their keys and date offsets from `warehouse.projects`. #}
{% macro write_project_files(results) %}
    {%- if execute and flags.WHICH in ('build', 'run')
        and results | selectattr('status', 'in', ['error', 'fail']) | list | length == 0 -%}
        {%- set rule = fromjson(env_var('RANVIER_POLICY')).controlled -%}
        {%- set scratch = target.database ~ '.main.' -%}
        {%- for project in fromjson(env_var('RANVIER_PROJECTS')) -%}
            {%- set file = 'project_' ~ loop.index -%}
            {%- do run_query("attach '" ~ env_var('RANVIER_BUILD') ~ "/controlled/" ~ project.name ~ ".duckdb' as " ~ file) -%}
            {%- do run_query(
                "create or replace temp table project_key as select * from read_parquet('"
                ~ env_var('RANVIER_REFERENCE') ~ "/project_key.parquet') where project = '" ~ project.name ~ "'"
            ) -%}
            {%- do run_query(project_person(project, rule)) -%}
            {%- for name, source, scope, is_personal, columns, keys in project_tables() -%}
                {%- if not scope or scope in project.scopes -%}
                    {%- do run_query(project_table(file, name, source, is_personal, columns, keys, rule)) -%}
                {%- endif -%}
            {%- endfor -%}
            {%- do run_query(
                "insert into " ~ scratch ~ "core_suppression "
                ~ suppression_counts('controlled/' ~ project.name ~ '.duckdb', 'project_person', rule.quasi + rule.sensitive)
            ) -%}
            {%- do run_query("detach " ~ file) -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{# The subjects of a project: who allows every scope of it, with what k-anonymity leaves of them. #}
{% macro project_person(project, rule) -%}
create or replace temp table project_person as
with person as (
    select
        subject.subject_key,
        {{ project_person_columns() | join(',\n        ') }}
    from steward.main.dim_subject as subject
    where subject.is_shared
        {%- for condition in project.conditions %}
        and coalesce(subject.{{ condition }}, false)
        {%- endfor %}
),

{{ anonymity_steps(rule.quasi, rule.sensitive, rule.k, rule.l) }}

select
    anonymous.*,
    project_key.shift_days
from anonymous
inner join project_key
    on anonymous.subject_key = project_key.key
{%- endmacro %}

{# Sorted by the project's own keys: rows in the order of another file would tell which key there is which key here. #}
{% macro project_table(file, name, source, is_personal, columns, keys, rule) -%}
    {%- set held = [] -%}
    {%- for column, class, sql in columns if class in rule.classes or class == 'tracing' -%}
        {%- do held.append(sql) -%}
    {%- endfor -%}
create table {{ file }}.main.{{ name }} as
select {{ held | join(', ') }}
from {{ source_of_site_table(source) }} as source
    {%- if is_personal %}
inner join (select * from project_person where is_kept) as person
    on source.subject_key = person.subject_key
        {%- for key in keys %}
left join project_key as {{ key }}_of
    on source.{{ key }} = {{ key }}_of.key
        {%- endfor %}
        {%- if name == 'dim_subject' %}
left join project_key as site_of
    on source.site_code = site_of.key
        {%- endif %}
where source.is_shared
    {%- endif %}
order by all
{%- endmacro %}
