with measure as (
    select * from {{ ref('fct_image_measure') }}
),

series as (
    select * from {{ ref('fct_mri_series') }}
)

select
    coalesce(series.contrast, 'unknown') as contrast,
    measure.measure,
    any_value(measure.unit) as unit,
    count(distinct measure.subject_key) as subject_count,
    count(*) as series_count,
    median(measure.value) as median_value
from measure
inner join series
    on measure.series_key = series.series_key
where measure.is_shared and measure.value is not null
group by 1, 2
