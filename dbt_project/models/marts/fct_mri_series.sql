with series as (
    select * from {{ ref('stg_imaging__series') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        series.*,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        coalesce(subject.is_image_shared, false) as is_shared
    from series
    left join subject
        on series.subject_key = subject.subject_key
    where not series.is_refused
)

select
    {{ columns_of('fct_mri_series') }}
from final
