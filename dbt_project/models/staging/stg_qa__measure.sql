with source as (
    select * from {{ source('raw_qa', 'raw_qa__measure') }}
)

select *
from source
qualify row_number() over (
    partition by series_key, measure
    order by method_version desc
) = 1
