with series as (
    select * from {{ ref('fct_mri_series') }}
),

final as (
    select
        site_code,
        coalesce(scanner_key, 'unknown') as scanner_key,
        coalesce(software_version, 'unknown') as software_version,
        any_value(manufacturer) as manufacturer,
        any_value(model) as model,
        any_value(field_strength_t) as field_strength_t,
        count(*) as series_count,
        '{{ env_var('RANVIER_VERSION') }}' as release_version
    from series
    group by 1, 2, 3
)

select
    {{ columns_of('dim_scanner') }}
from final
