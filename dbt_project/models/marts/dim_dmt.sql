with final as (
    select
        code as dmt,
        name as dmt_name,
        dmt_class,
        extract(year from first_approval_date) as first_approval_year,
        source,
        is_verified
    from {{ source('reference', 'dmt') }}
)

select
    {{ columns_of('dim_dmt') }}
from final
