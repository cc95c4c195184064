{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
{{ config(materialized='view') }}
with source as (
    select * from {{ source('raw_registry', 'raw_registry__consent') }}
),

accepted as (
    select * from {{ ref('stg_lake__accepted') }}
),

refused as (
    select distinct
        site_code,
        row_key
    from {{ source('raw_qa', 'raw_qa__refused_row') }}
    where entity = 'consent'
)

select
    source.*,
    accepted.sequence_number,
    refused.row_key is not null as is_refused
from source
inner join accepted
    on source.site_code = accepted.site_code
    and source.delivery_key = accepted.delivery_key
left join refused
    on source.site_code = refused.site_code
    and source.row_key = refused.row_key
