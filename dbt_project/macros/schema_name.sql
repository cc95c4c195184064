{# Every tier's tables lie in the schema `main` of the tier's own file. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema }}
{%- endmacro %}
