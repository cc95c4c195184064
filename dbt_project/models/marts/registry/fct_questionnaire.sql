{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with questionnaire as (
    select * from {{ ref('core_questionnaire') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        questionnaire.row_key,
        questionnaire.source_row,
        questionnaire.subject_key,
        row_number() over (
            partition by questionnaire.subject_key
            order by questionnaire_date, questionnaire, questionnaire.row_key
        ) as questionnaire_number,
        {{ variables_of('questionnaire', 'questionnaire') }},
        {{ age_band('subject.birth_date', 'questionnaire.questionnaire_date') }} as age_band,
        {{ age_years('subject.birth_date', 'questionnaire.questionnaire_date') }} as age_years,
        questionnaire.site_code,
        questionnaire.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from questionnaire
    inner join subject
        on questionnaire.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_questionnaire') }}
from final
