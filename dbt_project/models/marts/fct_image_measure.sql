with measure as (
    select * from {{ ref('stg_qa__measure') }}
),

series as (
    select * from {{ ref('fct_mri_series') }}
),

final as (
    select
        measure.* exclude (site_code, delivery_key),
        series.subject_key,
        series.site_code,
        series.delivery_key,
        series.release_version,
        series.is_shared
    from measure
    inner join series
        on measure.series_key = series.series_key
)

select
    {{ columns_of('fct_image_measure') }}
from final
