with verdict as (
    select * from {{ ref('stg_qa__verdict') }}
),

series as (
    select * from {{ ref('stg_imaging__series') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        verdict.* exclude (site_code, delivery_key),
        series.subject_key,
        series.site_code,
        series.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        -- A series that shows no head belongs to nobody who could share it.
        coalesce(subject.is_image_shared, false)
            and not coalesce(verdict.is_refused, false) as is_shared
    from verdict
    inner join series
        on verdict.series_key = series.series_key
    left join subject
        on series.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_verdict') }}
from final
