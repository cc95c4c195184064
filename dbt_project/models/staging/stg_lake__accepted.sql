with accepted as (
    select * from {{ source('raw_lake', 'raw_lake__accepted') }}
),

superseded as (
    select distinct
        site_code,
        supersedes_delivery_key as delivery_key
    from accepted
    where supersedes_delivery_key is not null
)

select
    accepted.site_code,
    accepted.delivery_key,
    accepted.accepted_datetime,
    accepted.sequence_number
from accepted
anti join superseded
    on accepted.site_code = superseded.site_code
    and accepted.delivery_key = superseded.delivery_key
