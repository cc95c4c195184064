{# Completed years between two dates, in bands of ten years with open ends, so that the very old do not stand alone. The band
   is looked up by the decade: the years are then computed once per row and not once per band. #}
{% macro age_band(birth_date, event_date) -%}
    case
        when {{ birth_date }} <= {{ event_date }} then [
            'under 20', 'under 20', '20-29', '30-39', '40-49', '50-59', '60-69', '70 or over'
        ][least(date_sub('year', {{ birth_date }}, {{ event_date }}) // 10, 7) + 1]
    end
{%- endmacro %}
