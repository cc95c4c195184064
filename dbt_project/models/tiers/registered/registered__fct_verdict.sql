{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_verdict') }}
)

select
    cast(series_key as varchar) as series_key,
    cast(subject_key as varchar) as subject_key,
    cast(verdict as varchar) as verdict,
    cast(is_refused as boolean) as is_refused,
    cast(rule_ids as varchar) as rule_ids
from source
where is_shared
