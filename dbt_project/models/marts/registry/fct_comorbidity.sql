{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with comorbidity as (
    select * from {{ ref('core_comorbidity') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        comorbidity.row_key,
        comorbidity.source_row,
        comorbidity.subject_key,
        row_number() over (
            partition by comorbidity.subject_key
            order by comorbidity_start_date, comorbidity, comorbidity_icd_code, comorbidity.row_key
        ) as comorbidity_number,
        {{ variables_of('comorbidity', 'comorbidity') }},
        {{ age_band('subject.birth_date', 'comorbidity.comorbidity_start_date') }} as age_band,
        {{ age_years('subject.birth_date', 'comorbidity.comorbidity_start_date') }} as age_years,
        comorbidity.site_code,
        comorbidity.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from comorbidity
    inner join subject
        on comorbidity.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_comorbidity') }}
from final
