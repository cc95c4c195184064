with final as (
    select * from {{ source('reference', 'variable') }}
)

select
    {{ columns_of('dim_variable') }}
from final
