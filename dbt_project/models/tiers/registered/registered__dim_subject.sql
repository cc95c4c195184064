{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('dim_subject') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast({{ held('registered', 'quasi', "person.age_at_onset_band") }} as varchar) as age_at_onset_band,
    cast({{ held('registered', 'quasi', "person.sex") }} as varchar) as sex,
    cast({{ held('registered', 'quasi', "person.onset_year") }} as integer) as onset_year,
    cast({{ held('registered', 'sensitive', rare_merged('source.onset_topography', 'source.subject_key', rare_maximum())) }} as varchar) as onset_topography,
    cast({{ held('registered', 'quasi', "person.diagnosis_year") }} as integer) as diagnosis_year,
    cast({{ rare_merged('source.diagnosis_criteria', 'source.subject_key', rare_maximum()) }} as varchar) as diagnosis_criteria,
    cast({{ held('registered', 'sensitive', "person.disease_course") }} as varchar) as disease_course
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key
