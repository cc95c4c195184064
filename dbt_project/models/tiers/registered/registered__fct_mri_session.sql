{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_mri_session') }}
)

select
    cast(subject_key as varchar) as subject_key,
    cast(session_number as integer) as session_number,
    cast(session_key as varchar) as session_key,
    cast(extract(year from session_date) as integer) as session_year,
    cast(series_count as bigint) as series_count,
    cast(is_reported as boolean) as is_reported,
    cast(age_band as varchar) as age_band,
    cast(extract(year from mri_date) as integer) as mri_year,
    cast(mri_region as varchar) as mri_region,
    cast(is_contrast_given as boolean) as is_contrast_given,
    cast(gd_lesion_count as bigint) as gd_lesion_count,
    cast(t2_lesion_count as bigint) as t2_lesion_count
from source
where is_shared
