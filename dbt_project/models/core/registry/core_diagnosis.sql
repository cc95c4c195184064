{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead.
   A key that stands once needs no choice: keys are counted by their hash, and only rows whose hash stands twice are
   sorted. Never stored, because writing the rows costs more than choosing them again. #}
with staged as not materialized (
    select * exclude (is_refused)
    from {{ ref('stg_registry__diagnosis') }}
    where not is_refused
        and subject_key is not null
),

repeated as (
    select hash(subject_key, diagnosed_date) as key_hash
    from staged
    group by 1
    having count(*) > 1
)

select staged.*
from staged
anti join repeated
    on hash(subject_key, diagnosed_date) = repeated.key_hash
union all
(
    select staged.*
    from staged
    semi join repeated
        on hash(subject_key, diagnosed_date) = repeated.key_hash
    qualify row_number() over (
        partition by subject_key, diagnosed_date
        order by sequence_number desc, source_row desc, row_key
    ) = 1
)
