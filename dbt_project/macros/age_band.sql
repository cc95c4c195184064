{# Completed years between two dates, in bands of ten years with open ends, so that the very old do not stand alone. #}
{% macro age_band(birth_date, event_date) -%}
    case
        when {{ birth_date }} is null or {{ event_date }} is null then null
        when date_sub('year', {{ birth_date }}, {{ event_date }}) < 0 then null
        when date_sub('year', {{ birth_date }}, {{ event_date }}) < 20 then 'under 20'
        when date_sub('year', {{ birth_date }}, {{ event_date }}) >= 70 then '70 or over'
        else (date_sub('year', {{ birth_date }}, {{ event_date }}) // 10 * 10)::varchar
            || '-' || (date_sub('year', {{ birth_date }}, {{ event_date }}) // 10 * 10 + 9)::varchar
    end
{%- endmacro %}
