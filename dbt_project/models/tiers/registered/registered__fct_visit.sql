{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_visit') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.visit_number as integer) as visit_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.visit_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.visit_date)") }} as integer) as visit_year,
    cast(source.visit_type as varchar) as visit_type,
    cast(source.visit_reason as varchar) as visit_reason,
    cast({{ held('registered', 'sensitive', "source.visit_course") }} as varchar) as visit_course,
    cast({{ held('registered', 'sensitive', "source.is_relapse_ongoing") }} as boolean) as is_relapse_ongoing,
    cast({{ held('registered', 'sensitive', "source.edss") }} as double) as edss,
    cast({{ held('registered', 'sensitive', "source.fs_pyramidal") }} as bigint) as fs_pyramidal,
    cast({{ held('registered', 'sensitive', "source.fs_cerebellar") }} as bigint) as fs_cerebellar,
    cast({{ held('registered', 'sensitive', "source.fs_brainstem") }} as bigint) as fs_brainstem,
    cast({{ held('registered', 'sensitive', "source.fs_sensory") }} as bigint) as fs_sensory,
    cast({{ held('registered', 'sensitive', "source.fs_bowel_bladder") }} as bigint) as fs_bowel_bladder,
    cast({{ held('registered', 'sensitive', "source.fs_visual") }} as bigint) as fs_visual,
    cast({{ held('registered', 'sensitive', "source.fs_cerebral") }} as bigint) as fs_cerebral,
    cast({{ held('registered', 'sensitive', "source.fs_ambulation") }} as bigint) as fs_ambulation,
    cast(source.ambulation_scale as varchar) as ambulation_scale,
    cast({{ held('registered', 'sensitive', "source.t25fw_s") }} as double) as t25fw_s,
    cast({{ held('registered', 'sensitive', "source.nhpt_dominant_s") }} as double) as nhpt_dominant_s,
    cast({{ held('registered', 'sensitive', "source.nhpt_nondominant_s") }} as double) as nhpt_nondominant_s,
    cast({{ held('registered', 'sensitive', "source.sdmt_score") }} as bigint) as sdmt_score,
    cast({{ held('registered', 'sensitive', "source.pasat_score") }} as bigint) as pasat_score
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, visit_number
