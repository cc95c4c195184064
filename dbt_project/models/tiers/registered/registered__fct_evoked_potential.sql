{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_evoked_potential') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.evoked_potential_number as integer) as evoked_potential_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.evoked_potential_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.evoked_potential_date)") }} as integer) as evoked_potential_year,
    cast(source.evoked_potential as varchar) as evoked_potential,
    cast(source.evoked_potential_side as varchar) as evoked_potential_side,
    cast({{ held('registered', 'sensitive', "source.is_evoked_potential_abnormal") }} as boolean) as is_evoked_potential_abnormal,
    cast({{ held('registered', 'sensitive', "source.evoked_potential_latency_ms") }} as double) as evoked_potential_latency_ms,
    cast({{ held('registered', 'sensitive', "source.evoked_potential_amplitude_uv") }} as double) as evoked_potential_amplitude_uv
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, evoked_potential_number
