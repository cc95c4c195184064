with measure as (
    select * from {{ ref('fct_image_measure') }}
),

final as (
    select
        measure,
        method_version,
        any_value(unit) as unit,
        any_value(direction) as direction
    from measure
    group by measure, method_version
)

select
    {{ columns_of('dim_measure') }}
from final
