{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with adverse_event as (
    select * from {{ ref('core_adverse_event') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        adverse_event.row_key,
        adverse_event.source_row,
        adverse_event.subject_key,
        row_number() over (
            partition by adverse_event.subject_key
            order by adverse_event_date, adverse_event, adverse_event_term, adverse_event.row_key
        ) as adverse_event_number,
        {{ variables_of('adverse_event', 'adverse_event') }},
        {{ age_band('subject.birth_date', 'adverse_event.adverse_event_date') }} as age_band,
        {{ age_years('subject.birth_date', 'adverse_event.adverse_event_date') }} as age_years,
        adverse_event.site_code,
        adverse_event.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from adverse_event
    inner join subject
        on adverse_event.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_adverse_event') }}
from final
