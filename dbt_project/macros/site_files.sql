{# One file per site, at the end of the same build: its own rows of the steward's tables, and the network's aggregates.
   Sites are data, so these files cannot be models; their tables and columns come from the policy (`site_tables`). #}
{% macro write_site_files(results) %}
    {%- if execute and flags.WHICH in ('build', 'run')
        and results | selectattr('status', 'in', ['error', 'fail']) | list | length == 0 -%}
        {%- for site in fromjson(env_var('RANVIER_SITES')) -%}
            {%- set file = 'site_' ~ loop.index -%}
            {%- do run_query("attach '" ~ env_var('RANVIER_BUILD') ~ "/site/" ~ site ~ ".duckdb' as " ~ file) -%}
            {%- for name, source, rows, columns in site_tables() -%}
                {%- set filters = {
                    'all': '',
                    'own': " where site_code = '" ~ site ~ "'",
                    'own_shared': " where is_shared and site_code = '" ~ site ~ "'"
                } -%}
                {%- do run_query(
                    "create table " ~ file ~ ".main." ~ name ~ " as select " ~ columns | join(', ')
                    ~ " from " ~ source_of_site_table(source) ~ filters[rows]
                ) -%}
            {%- endfor -%}
            {%- do run_query("detach " ~ file) -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{% macro source_of_site_table(name) -%}
    {{ return((target.database if name.startswith('core_') else 'steward') ~ '.main.' ~ name) }}
{%- endmacro %}
