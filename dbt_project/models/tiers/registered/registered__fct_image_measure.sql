{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_image_measure') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.series_key as varchar) as series_key,
    cast(source.subject_key as varchar) as subject_key,
    cast(source.measure as varchar) as measure,
    cast(source.value as double) as value,
    cast(source.unit as varchar) as unit,
    cast(source.direction as varchar) as direction,
    cast(source.reason_code as varchar) as reason_code,
    cast(source.method_version as varchar) as method_version
from source
inner join person
    on source.subject_key = person.subject_key
order by series_key, measure
