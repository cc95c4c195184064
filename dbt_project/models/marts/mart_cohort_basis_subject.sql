{#- Who is unknown to the warehouse now, as after an erasure, is not kept here either. -#}
with refresh as (
    select * from {{ ref('core_cohort_refresh') }}
),

final as (
    select fresh.subject_key, fresh.strata_digest
    from {{ ref('core_cohort_subject') }} as fresh
    cross join refresh
    where refresh.is_refreshed
    union all
    select before.subject_key, before.strata_digest
    from {{ source('published', 'published_subject') }} as before
    inner join {{ ref('core_subject') }} as known
        on before.subject_key = known.subject_key
    cross join refresh
    where not refresh.is_refreshed
)

select
    {{ columns_of('mart_cohort_basis_subject') }}
from final
