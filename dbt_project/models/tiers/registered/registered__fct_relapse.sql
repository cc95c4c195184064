{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_relapse') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.relapse_number as integer) as relapse_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.relapse_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.relapse_date)") }} as integer) as relapse_year,
    cast({{ held('registered', 'quasi', "extract(year from source.relapse_end_date)") }} as integer) as relapse_end_year,
    cast({{ held('registered', 'sensitive', "source.relapse_duration_days") }} as bigint) as relapse_duration_days,
    cast({{ held('registered', 'sensitive', "source.relapse_severity") }} as varchar) as relapse_severity,
    cast({{ held('registered', 'sensitive', "source.is_relapse_pyramidal") }} as boolean) as is_relapse_pyramidal,
    cast({{ held('registered', 'sensitive', "source.is_relapse_cerebellar") }} as boolean) as is_relapse_cerebellar,
    cast({{ held('registered', 'sensitive', "source.is_relapse_brainstem") }} as boolean) as is_relapse_brainstem,
    cast({{ held('registered', 'sensitive', "source.is_relapse_sensory") }} as boolean) as is_relapse_sensory,
    cast({{ held('registered', 'sensitive', "source.is_relapse_bowel_bladder") }} as boolean) as is_relapse_bowel_bladder,
    cast({{ held('registered', 'sensitive', "source.is_relapse_visual") }} as boolean) as is_relapse_visual,
    cast({{ held('registered', 'sensitive', "source.is_relapse_cerebral") }} as boolean) as is_relapse_cerebral,
    cast({{ held('registered', 'sensitive', "source.relapse_recovery") }} as varchar) as relapse_recovery,
    cast({{ held('registered', 'sensitive', "source.is_adl_affected") }} as boolean) as is_adl_affected,
    cast({{ held('registered', 'sensitive', "source.is_steroid_treated") }} as boolean) as is_steroid_treated
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, relapse_number
