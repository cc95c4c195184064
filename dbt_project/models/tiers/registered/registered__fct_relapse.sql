{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_relapse') }}
)

select
    cast(subject_key as varchar) as subject_key,
    cast(relapse_number as integer) as relapse_number,
    cast(age_band as varchar) as age_band,
    cast(extract(year from relapse_date) as integer) as relapse_year,
    cast(relapse_duration_days as bigint) as relapse_duration_days,
    cast(relapse_severity as varchar) as relapse_severity,
    cast(is_steroid_treated as boolean) as is_steroid_treated
from source
where is_shared
