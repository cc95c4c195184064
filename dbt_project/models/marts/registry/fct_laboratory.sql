{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with laboratory as (
    select * from {{ ref('core_laboratory') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        laboratory.row_key,
        laboratory.source_row,
        laboratory.subject_key,
        row_number() over (
            partition by laboratory.subject_key
            order by laboratory_date, laboratory_test, laboratory.row_key
        ) as laboratory_number,
        {{ variables_of('laboratory', 'laboratory') }},
        {{ age_band('subject.birth_date', 'laboratory.laboratory_date') }} as age_band,
        {{ age_years('subject.birth_date', 'laboratory.laboratory_date') }} as age_years,
        laboratory.site_code,
        laboratory.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from laboratory
    inner join subject
        on laboratory.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_laboratory') }}
from final
