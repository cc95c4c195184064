{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('dim_variable') }}
)

select
    cast(entity as varchar) as entity,
    cast(variable as varchar) as variable,
    cast(type as varchar) as type,
    cast(unit as varchar) as unit,
    cast(definition as varchar) as definition,
    cast(source as varchar) as source,
    cast(codes as varchar) as codes,
    cast(allowed_range as varchar) as allowed_range,
    cast(tier as varchar) as tier,
    cast(generalised_to as varchar) as generalised_to,
    cast(disclosure as varchar) as disclosure,
    cast(since as varchar) as since,
    cast(owner as varchar) as owner,
    cast(msda as varchar) as msda,
    cast(sdtm as varchar) as sdtm,
    cast(omop as varchar) as omop,
    cast(is_verified as boolean) as is_verified,
    cast(note as varchar) as note
from source
