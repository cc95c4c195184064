with subject as (
    select * from {{ ref('core_subject') }}
),

patient as (
    select * from {{ ref('core_patient') }}
),

consent as (
    select * from {{ ref('core_consent') }}
),

final as (
    select
        subject.subject_key,
        subject.consent_status,
        {{ age_band('patient.birth_date', 'patient.onset_date') }}
            as age_at_onset_band,
        {{ age_years('patient.birth_date', 'patient.onset_date') }}
            as age_at_onset_years,
        {{ variables_of('patient', 'patient') }},
        {{ variables_of('consent', 'consent') }},
        patient.source_row,
        subject.site_code,
        subject.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared,
        subject.is_image_shared
    from subject
    left join patient on subject.subject_key = patient.subject_key
    left join consent on subject.subject_key = consent.subject_key
)

select
    {{ columns_of('dim_subject') }}
from final
