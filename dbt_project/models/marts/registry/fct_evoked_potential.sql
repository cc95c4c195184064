{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with evoked_potential as (
    select * from {{ ref('core_evoked_potential') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        evoked_potential.row_key,
        evoked_potential.source_row,
        evoked_potential.subject_key,
        row_number() over (
            partition by evoked_potential.subject_key
            order by evoked_potential_date, evoked_potential, evoked_potential_side, evoked_potential.row_key
        ) as evoked_potential_number,
        {{ variables_of('evoked_potential', 'evoked_potential') }},
        {{ age_band('subject.birth_date', 'evoked_potential.evoked_potential_date') }} as age_band,
        {{ age_years('subject.birth_date', 'evoked_potential.evoked_potential_date') }} as age_years,
        evoked_potential.site_code,
        evoked_potential.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from evoked_potential
    inner join subject
        on evoked_potential.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_evoked_potential') }}
from final
