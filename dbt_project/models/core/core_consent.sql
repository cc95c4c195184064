{# What a subject allows today. The newest delivery that says anything about it decides, refused rows included: a consent
   that cannot be trusted shares nothing, and an older yes must not come back because the newer row was refused. A
   withdrawal counts wherever the newest rows hold one. #}
with consent as (
    select * from {{ ref('stg_registry__consent') }}
),

newest as (
    select *
    from consent
    where subject_key is not null
    qualify rank() over (
        partition by subject_key
        order by sequence_number desc
    ) = 1
)

select
    subject_key,
    any_value(site_code) as site_code,
    any_value(delivery_key) as delivery_key,
    max(consent_date) as consent_date,
    bool_and(coalesce(is_registry_consented, false)) as is_registry_consented,
    bool_and(is_imaging_consented) as is_imaging_consented,
    bool_and(is_network_sharing_consented) as is_network_sharing_consented,
    bool_and(coalesce(is_research_sharing_consented, false))
        as is_research_sharing_consented,
    bool_and(coalesce(is_outside_eu_sharing_consented, false))
        as is_outside_eu_sharing_consented,
    bool_and(coalesce(is_commercial_use_consented, false))
        as is_commercial_use_consented,
    bool_and(coalesce(is_public_images_consented, false))
        as is_public_images_consented,
    bool_and(coalesce(is_recontact_consented, false))
        as is_recontact_consented,
    min(withdrawal_date) as withdrawal_date,
    bool_or(withdrawal_date is not null) as is_withdrawn,
    bool_or(is_refused) as is_refused
from newest
group by subject_key
