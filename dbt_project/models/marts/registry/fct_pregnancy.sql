{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with pregnancy as (
    select * from {{ ref('core_pregnancy') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        pregnancy.row_key,
        pregnancy.source_row,
        pregnancy.subject_key,
        row_number() over (
            partition by pregnancy.subject_key
            order by pregnancy_start_date, pregnancy.row_key
        ) as pregnancy_number,
        {{ variables_of('pregnancy', 'pregnancy') }},
        {{ age_band('subject.birth_date', 'pregnancy.pregnancy_start_date') }} as age_band,
        {{ age_years('subject.birth_date', 'pregnancy.pregnancy_start_date') }} as age_years,
        pregnancy.site_code,
        pregnancy.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from pregnancy
    inner join subject
        on pregnancy.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_pregnancy') }}
from final
