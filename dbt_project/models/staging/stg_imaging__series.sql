with source as (
    select * from {{ source('raw_imaging', 'raw_imaging__series') }}
),

accepted as (
    select * from {{ ref('stg_lake__accepted') }}
),

verdict as (
    select * from {{ ref('stg_qa__verdict') }}
)

select
    source.* exclude (subject_key),
    coalesce(source.subject_key, 'unknown') as subject_key,
    accepted.sequence_number,
    source.status is distinct from 'accepted'
        or coalesce(verdict.is_refused, false) as is_refused
from source
inner join accepted
    on source.site_code = accepted.site_code
    and source.delivery_key = accepted.delivery_key
left join verdict
    on source.series_key = verdict.series_key
qualify row_number() over (
    partition by source.series_key
    order by accepted.sequence_number desc, source.delivery_key
) = 1
