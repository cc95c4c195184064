{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with csf as (
    select * from {{ ref('core_csf') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        csf.row_key,
        csf.source_row,
        csf.subject_key,
        row_number() over (
            partition by csf.subject_key
            order by csf_date, csf.row_key
        ) as csf_number,
        {{ variables_of('csf', 'csf') }},
        {{ age_band('subject.birth_date', 'csf.csf_date') }} as age_band,
        {{ age_years('subject.birth_date', 'csf.csf_date') }} as age_years,
        csf.site_code,
        csf.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from csf
    inner join subject
        on csf.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_csf') }}
from final
