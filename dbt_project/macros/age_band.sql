{# Completed years between two dates, and their bands with open ends, so that the very old do not stand alone. The bands
   are the policy's: `first` is the lowest age of the first closed band, `width` its years, `last` the lowest age of the
   open band at the top. #}
{% macro age_years(birth_date, event_date) -%}
    case
        when date_sub('year', {{ birth_date }}, {{ event_date }}) >= 0
        then date_sub('year', {{ birth_date }}, {{ event_date }})
    end
{%- endmacro %}

{% macro banded(value, first, width, last) -%}
    case
        when {{ value }} is null then null
        when {{ value }} < {{ first }} then 'under {{ first }}'
        when {{ value }} >= {{ last }} then '{{ last }} or over'
        else (({{ value }} - {{ first }}) // {{ width }} * {{ width }} + {{ first }})::varchar
            || '-' || (({{ value }} - {{ first }}) // {{ width }} * {{ width }} + {{ first + width - 1 }})::varchar
    end
{%- endmacro %}

{% macro age_band(birth_date, event_date) -%}
    {%- set bands = fromjson(env_var('RANVIER_POLICY')).age_bands -%}
    {{ banded(age_years(birth_date, event_date), bands.first, bands.width, bands.last) }}
{%- endmacro %}
