{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with relapse as (
    select * from {{ ref('core_relapse') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        relapse.row_key,
        relapse.source_row,
        relapse.subject_key,
        row_number() over (
            partition by relapse.subject_key
            order by relapse_date, relapse.row_key
        ) as relapse_number,
        {{ variables_of('relapse', 'relapse') }},
        {{ age_band('subject.birth_date', 'relapse.relapse_date') }} as age_band,
        {{ age_years('subject.birth_date', 'relapse.relapse_date') }} as age_years,
        relapse.site_code,
        relapse.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from relapse
    inner join subject
        on relapse.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_relapse') }}
from final
