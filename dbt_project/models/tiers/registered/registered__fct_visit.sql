{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_visit') }}
)

select
    cast(subject_key as varchar) as subject_key,
    cast(visit_number as integer) as visit_number,
    cast(age_band as varchar) as age_band,
    cast(extract(year from visit_date) as integer) as visit_year,
    cast(visit_type as varchar) as visit_type,
    cast(edss as double) as edss,
    cast(fs_pyramidal as bigint) as fs_pyramidal,
    cast(fs_cerebellar as bigint) as fs_cerebellar,
    cast(fs_visual as bigint) as fs_visual,
    cast(t25fw_s as double) as t25fw_s,
    cast(sdmt_score as bigint) as sdmt_score
from source
where is_shared
