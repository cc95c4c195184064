{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
{%- set rule = fromjson(env_var('RANVIER_POLICY')).registered -%}
with person as (
    select
        subject.subject_key,
        subject.birth_date,
        cast(extract(year from subject.diagnosis_date) as integer) as diagnosis_year,
        cast(extract(year from subject.onset_date) as integer) as onset_year,
        cast(subject.age_at_onset_band as varchar) as age_at_onset_band,
        cast(subject.sex as varchar) as sex,
        cast(subject.disease_course as varchar) as disease_course
    from {{ ref('dim_subject') }} as subject
    where subject.is_shared and {{ rule.row_level }}
),

{{ anonymity_steps(rule.quasi, rule.sensitive, rule.k, rule.l) }}

select
    anonymous.*,
    {{ birth_anchor('person.birth_date', 'anonymous.age_at_onset_band') }} as birth_anchor
from anonymous
inner join person
    on anonymous.subject_key = person.subject_key
