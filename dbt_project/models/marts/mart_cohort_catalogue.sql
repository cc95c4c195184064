with final as (
    select stratum_kind, stratum, sum(subject_count) as subject_count
    from {{ ref('core_cohort_count') }}
    group by all
)

select
    {{ columns_of('mart_cohort_catalogue') }}
from final
