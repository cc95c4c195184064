with finding as (
    select * from {{ ref('stg_qa__finding') }}
),

series as (
    select * from {{ ref('stg_imaging__series') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

placed as (
    select
        finding.* exclude (subject_key),
        case
            when finding.subject_key is not null then finding.subject_key
            when finding.entity_kind = 'subject' then finding.entity_key
            when finding.entity_kind = 'series' then series.subject_key
        end as subject_key
    from finding
    left join series
        on finding.entity_key = series.series_key
),

final as (
    select
        placed.*,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        -- A row or series whose subject is not known may be about one who shares nothing.
        case
            when placed.subject_key is null
            then placed.entity_kind in ('delivery', 'site')
            when placed.entity_kind = 'series'
            then coalesce(subject.is_image_shared, false)
            else coalesce(subject.is_shared, false)
        end as is_shared
    from placed
    left join subject
        on placed.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_finding') }}
from final
