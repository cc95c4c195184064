with measure as (
    select * from {{ ref('fct_image_measure') }}
),

series as (
    select * from {{ ref('fct_mri_series') }}
),

counted as (
    select
        coalesce(series.contrast, 'unknown') as contrast,
        measure.measure,
        measure.unit,
        measure.site_code,
        measure.subject_key,
        measure.value
    from measure
    inner join series
        on measure.series_key = series.series_key
    where measure.is_shared and measure.value is not null
),

site as (
    select contrast, measure, site_code, count(distinct subject_key) as subject_count
    from counted
    group by all
),

largest as (
    select contrast, measure, max(subject_count) as largest_site_count
    from site
    group by all
),

summary as (
    select
        contrast,
        measure,
        any_value(unit) as unit,
        count(distinct subject_key) as subject_count,
        count(*) as series_count,
        median(value) as median_value
    from counted
    group by all
)

select
    summary.*,
    largest.largest_site_count
from summary
inner join largest
    on summary.contrast = largest.contrast
    and summary.measure = largest.measure
