{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with staged as (
    select * from {{ ref('stg_registry__treatment') }}
)

select * exclude (is_refused)
from staged
where not is_refused
    and subject_key is not null
qualify row_number() over (
    partition by subject_key, dmt, start_date
    order by sequence_number desc, source_row desc, row_key
) = 1
