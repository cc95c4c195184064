{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('dim_subject') }}
)

select
    cast(subject_key as varchar) as subject_key,
    cast(age_at_onset_band as varchar) as age_at_onset_band,
    cast(sex as varchar) as sex,
    cast(extract(year from onset_date) as integer) as onset_year,
    cast(extract(year from diagnosis_date) as integer) as diagnosis_year,
    cast(disease_course as varchar) as disease_course
from source
where is_shared
