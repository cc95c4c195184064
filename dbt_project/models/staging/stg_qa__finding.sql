with source as (
    select * from {{ source('raw_qa', 'raw_qa__finding') }}
)

select *
from source
qualify row_number() over (
    partition by finding_key
    order by last_seen_datetime desc
) = 1
