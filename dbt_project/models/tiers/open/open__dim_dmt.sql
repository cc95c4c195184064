{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('dim_dmt') }}
)

select
    cast(dmt as varchar) as dmt,
    cast(dmt_name as varchar) as dmt_name,
    cast(dmt_class as varchar) as dmt_class,
    cast(first_approval_year as integer) as first_approval_year,
    cast(source as varchar) as source,
    cast(is_verified as boolean) as is_verified
from source
