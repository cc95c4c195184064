with summary as (
    select
        *,
        {{ is_large('subject_count', 'largest_site_count') }} as is_shown
    from {{ ref('core_imaging_summary') }}
),

refresh as (
    select * from {{ ref('core_cohort_refresh') }}
)

select
    contrast,
    measure,
    unit,
    subject_count,
    series_count,
    median_value,
    case when is_shown then {{ rounded('subject_count') }} end as published_subject_count,
    case when is_shown then {{ rounded('series_count') }} end as published_series_count,
    case when is_shown then round(median_value, 2) end as published_median_value
from summary
cross join refresh
where refresh.is_refreshed
union all
select
    published.contrast,
    published.measure,
    published.unit,
    null,
    null,
    null,
    published.subject_count,
    published.series_count,
    published.median_value
from {{ source('published', 'published_imaging') }} as published
cross join refresh
where not refresh.is_refreshed
