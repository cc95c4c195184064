{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_diagnosis') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.diagnosis_number as integer) as diagnosis_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.diagnosed_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.diagnosed_date)") }} as integer) as diagnosed_year,
    cast({{ held('registered', 'sensitive', rare_merged('source.diagnosis', 'source.subject_key', rare_maximum())) }} as varchar) as diagnosis
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, diagnosis_number
