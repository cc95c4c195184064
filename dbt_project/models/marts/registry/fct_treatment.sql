{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with treatment as (
    select * from {{ ref('core_treatment') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        treatment.row_key,
        treatment.source_row,
        treatment.subject_key,
        row_number() over (
            partition by treatment.subject_key
            order by start_date, dmt, treatment.row_key
        ) as course_number,
        {{ variables_of('treatment', 'treatment') }},
        {{ age_band('subject.birth_date', 'treatment.start_date') }} as age_band,
        {{ age_years('subject.birth_date', 'treatment.start_date') }} as age_years,
        treatment.site_code,
        treatment.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from treatment
    inner join subject
        on treatment.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_treatment') }}
from final
