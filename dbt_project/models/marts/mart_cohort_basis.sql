with refresh as (
    select * from {{ ref('core_cohort_refresh') }}
),

final as (
    select counted.site_code, counted.stratum_kind, counted.stratum, counted.subject_count
    from {{ ref('core_cohort_count') }} as counted
    cross join refresh
    where refresh.is_refreshed
    union all
    select before.site_code, before.stratum_kind, before.stratum, before.subject_count
    from {{ source('published', 'published_basis') }} as before
    cross join refresh
    where not refresh.is_refreshed
)

select
    {{ columns_of('mart_cohort_basis') }}
from final
