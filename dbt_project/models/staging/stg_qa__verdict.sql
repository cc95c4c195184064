with source as (
    select * from {{ source('raw_qa', 'raw_qa__verdict') }}
)

select
    * exclude (reasons, rule_ids, exclusion_drivers),
    array_to_string(reasons, '; ') as reasons,
    array_to_string(rule_ids, ', ') as rule_ids,
    array_to_string(exclusion_drivers, ', ') as exclusion_drivers
from source
qualify row_number() over (
    partition by series_key
    order by judged_datetime desc
) = 1
