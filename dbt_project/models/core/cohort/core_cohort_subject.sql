{#- Everything a subject is counted as, in one number: a correction of any of it is a change. -#}
with member as (
    select subject_key, bit_xor(hash(stratum_kind, stratum)) as digest
    from {{ ref('core_cohort_member') }}
    group by subject_key
),

measure as (
    select subject_key, bit_xor(hash(series_key, measure, value)) as digest
    from {{ ref('fct_image_measure') }}
    where is_shared and value is not null
    group by subject_key
)

select
    member.subject_key,
    hash(member.digest, measure.digest)::varchar as strata_digest
from member
left join measure
    on member.subject_key = measure.subject_key
