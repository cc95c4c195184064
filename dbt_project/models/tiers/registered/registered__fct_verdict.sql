{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_verdict') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.series_key as varchar) as series_key,
    cast(source.subject_key as varchar) as subject_key,
    cast(source.verdict as varchar) as verdict,
    cast(source.is_refused as boolean) as is_refused,
    cast(source.rule_ids as varchar) as rule_ids
from source
inner join person
    on source.subject_key = person.subject_key
order by series_key
