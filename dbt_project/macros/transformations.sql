{# What the policy may do to a value. Each takes SQL expressions and gives one; the policy's files name them. #}

{# Dates of one subject move by one offset, so the days between them stay what they are. #}
{% macro shifted(value, days) -%}
    {{ value }} - to_days({{ days }})
{%- endmacro %}

{% macro top_coded(value, maximum) -%}
    least({{ value }}, {{ maximum }})
{%- endmacro %}

{# A code that few subjects have becomes `other`. #}
{% macro rare_merged(value, subject, maximum) -%}
    case
        when {{ value }} is null then null
        when count(distinct {{ subject }}) over (partition by {{ value }}) > {{ maximum }} then {{ value }}
        else 'other'
    end
{%- endmacro %}

{# A value of a disclosure class that the policy in force keeps from the tier is never written. #}
{% macro held(tier, class, expression) -%}
    {{ expression if class in fromjson(env_var('RANVIER_POLICY'))[tier].classes else 'null' }}
{%- endmacro %}

{# Columns that are only empty because of `held` leave the table, so that nobody takes them for missing data. #}
{% macro drop_absent(tier) -%}
    {%- set absent = fromjson(env_var('RANVIER_POLICY'))[tier].absent.get(this.identifier, []) -%}
    {%- for column in absent %}alter table {{ this }} drop column {{ column }};{% endfor -%}
{%- endmacro %}

{# Most subjects that a rare code may have: as many as a count may have that is redacted. #}
{% macro rare_maximum() -%}
    {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }}
{%- endmacro %}

{# The middle of the five years a subject was born in; nothing where the subject's age was suppressed. Ages at events
   reckoned from the birth date itself would tell the year of birth, by the year in which they pass into the next band. #}
{% macro birth_anchor(birth_date, age) -%}
    case when {{ age }} is not null then make_date(extract(year from {{ birth_date }}) // 5 * 5 + 2, 7, 1) end
{%- endmacro %}
