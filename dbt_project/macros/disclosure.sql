{# The disclosure rule of aggregates: redact small counts first, then round the others. Rounding first would turn a
   count of 8 into 10 and one of 7 into 5, and tell which of the two was redacted. #}
{% macro redacted(column) -%}
    case
        when least({{ column }}, subject_count) > {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }}
        then round({{ column }} / {{ env_var('RANVIER_ROUNDING') }}.0) * {{ env_var('RANVIER_ROUNDING') }}
    end
{%- endmacro %}

{% macro unless_small(column) -%}
    case when subject_count > {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }} then round({{ column }}, 2) end
{%- endmacro %}
