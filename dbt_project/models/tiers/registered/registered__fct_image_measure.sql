{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_image_measure') }}
)

select
    cast(series_key as varchar) as series_key,
    cast(subject_key as varchar) as subject_key,
    cast(measure as varchar) as measure,
    cast(value as double) as value,
    cast(unit as varchar) as unit,
    cast(direction as varchar) as direction,
    cast(reason_code as varchar) as reason_code,
    cast(method_version as varchar) as method_version
from source
where is_shared
