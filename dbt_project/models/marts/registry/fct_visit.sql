{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with visit as (
    select * from {{ ref('core_visit') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        visit.row_key,
        visit.source_row,
        visit.subject_key,
        row_number() over (
            partition by visit.subject_key
            order by visit_date, visit.row_key
        ) as visit_number,
        {{ variables_of('visit', 'visit') }},
        {{ age_band('subject.birth_date', 'visit.visit_date') }} as age_band,
        {{ age_years('subject.birth_date', 'visit.visit_date') }} as age_years,
        visit.site_code,
        visit.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from visit
    inner join subject
        on visit.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_visit') }}
from final
