{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('core_published_imaging') }}
)

select
    cast(contrast as varchar) as contrast,
    cast(measure as varchar) as measure,
    cast(unit as varchar) as unit,
    cast({{ redacted('subject_count') }} as bigint) as subject_count,
    cast({{ redacted('series_count') }} as bigint) as series_count,
    cast({{ unless_small('median_value') }} as double) as median_value
from source
