{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_treatment') }}
)

select
    cast(subject_key as varchar) as subject_key,
    cast(course_number as integer) as course_number,
    cast(age_band as varchar) as age_band,
    cast(dmt as varchar) as dmt,
    cast(extract(year from start_date) as integer) as start_year,
    cast(extract(year from stop_date) as integer) as stop_year,
    cast(stop_reason as varchar) as stop_reason
from source
where is_shared
