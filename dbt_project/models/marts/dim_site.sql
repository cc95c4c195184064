with final as (
    select
        site_code,
        site_name,
        '{{ env_var('RANVIER_VERSION') }}' as release_version
    from {{ source('reference', 'site') }}
)

select
    {{ columns_of('dim_site') }}
from final
