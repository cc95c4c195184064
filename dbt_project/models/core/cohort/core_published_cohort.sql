with cell as (
    select
        stratum_kind,
        stratum,
        sum(subject_count) as subject_count,
        max(subject_count) as largest_site_count
    from {{ ref('core_cohort_count') }}
    group by all
),

fresh as (
    select cell.*, withheld.is_withheld
    from cell
    inner join {{ ref('core_cohort_withheld') }} as withheld
        on cell.stratum_kind = withheld.stratum_kind
        and cell.stratum = withheld.stratum
),

counted as (
    {{ published_strata('fresh', partitions()) }}
),

refresh as (
    select * from {{ ref('core_cohort_refresh') }}
)

select counted.*
from counted
cross join refresh
where refresh.is_refreshed
union all
select
    published.stratum_kind,
    published.stratum,
    null,
    published.subject_count
from {{ source('published', 'published_cohort') }} as published
cross join refresh
where not refresh.is_refreshed
