{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('dim_measure') }}
)

select
    cast(measure as varchar) as measure,
    cast(method_version as varchar) as method_version,
    cast(unit as varchar) as unit,
    cast(direction as varchar) as direction
from source
