{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_questionnaire') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.questionnaire_number as integer) as questionnaire_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.questionnaire_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.questionnaire_date)") }} as integer) as questionnaire_year,
    cast(source.questionnaire as varchar) as questionnaire,
    cast({{ held('registered', 'sensitive', "source.questionnaire_score") }} as double) as questionnaire_score
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, questionnaire_number
