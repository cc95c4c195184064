with patient as (
    select * from {{ ref('core_patient') }}
),

consent as (
    select * from {{ ref('core_consent') }}
),

mentions as (
    select distinct subject_key, site_code, delivery_key, sequence_number, 1 as preference
    from patient
    union all
    select subject_key, site_code, delivery_key, sequence_number, 2
    from {{ ref('core_registry_mention') }}
    union all
    select distinct subject_key, site_code, delivery_key, sequence_number, 3
    from {{ ref('stg_imaging__series') }}
    where subject_key != 'unknown'
    union all
    select distinct subject_key, site_code, delivery_key, sequence_number, 4
    from {{ ref('stg_registry__consent') }}
    where subject_key is not null
),

subject as (
    select *
    from mentions
    qualify row_number() over (
        partition by subject_key
        order by preference, sequence_number desc, delivery_key
    ) = 1
),

decided as (
    select
        subject.subject_key,
        subject.site_code,
        subject.delivery_key,
        patient.birth_date,
        case
            when consent.subject_key is null then 'no_consent_row'
            when consent.is_withdrawn then 'withdrawn'
            when not consent.is_refused
                and consent.is_registry_consented
                and consent.is_research_sharing_consented
                and consent.is_network_sharing_consented is distinct from false then 'shared'
            else 'not_shared'
        end as consent_status,
        consent.is_imaging_consented is distinct from false as is_imaging_allowed
    from subject
    left join patient on subject.subject_key = patient.subject_key
    left join consent on subject.subject_key = consent.subject_key
)

select
    * exclude (is_imaging_allowed),
    consent_status = 'shared' as is_shared,
    consent_status = 'shared' and is_imaging_allowed as is_image_shared
from decided
