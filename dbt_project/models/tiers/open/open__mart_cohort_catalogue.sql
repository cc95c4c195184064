{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('core_published_cohort') }}
)

select
    cast(stratum_kind as varchar) as stratum_kind,
    cast(stratum as varchar) as stratum,
    cast({{ redacted('subject_count') }} as bigint) as subject_count
from source
