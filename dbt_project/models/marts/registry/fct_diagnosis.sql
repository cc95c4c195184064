{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with diagnosis as (
    select * from {{ ref('core_diagnosis') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        diagnosis.row_key,
        diagnosis.source_row,
        diagnosis.subject_key,
        row_number() over (
            partition by diagnosis.subject_key
            order by diagnosed_date, diagnosis.row_key
        ) as diagnosis_number,
        {{ variables_of('diagnosis', 'diagnosis') }},
        {{ age_band('subject.birth_date', 'diagnosis.diagnosed_date') }} as age_band,
        {{ age_years('subject.birth_date', 'diagnosis.diagnosed_date') }} as age_years,
        diagnosis.site_code,
        diagnosis.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from diagnosis
    inner join subject
        on diagnosis.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_diagnosis') }}
from final
