{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_mri_session') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.session_number as integer) as session_number,
    cast(source.session_key as varchar) as session_key,
    cast({{ held('registered', 'quasi', "extract(year from source.session_date)") }} as integer) as session_year,
    cast(source.series_count as bigint) as series_count,
    cast(source.is_reported as boolean) as is_reported,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.session_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.mri_date)") }} as integer) as mri_year,
    cast({{ held('registered', 'sensitive', "source.mri_indication") }} as varchar) as mri_indication,
    cast(source.mri_region as varchar) as mri_region,
    cast({{ held('registered', 'sensitive', "source.is_contrast_given") }} as boolean) as is_contrast_given,
    cast({{ held('registered', 'sensitive', "source.gd_lesion_count") }} as bigint) as gd_lesion_count,
    cast({{ held('registered', 'sensitive', "source.gd_lesion_category") }} as varchar) as gd_lesion_category,
    cast({{ held('registered', 'sensitive', "source.t1_lesion_count") }} as bigint) as t1_lesion_count,
    cast({{ held('registered', 'sensitive', "source.t2_lesion_count") }} as bigint) as t2_lesion_count,
    cast({{ held('registered', 'sensitive', "source.t2_lesion_category") }} as varchar) as t2_lesion_category,
    cast({{ held('registered', 'sensitive', "source.spinal_t2_lesion_count") }} as bigint) as spinal_t2_lesion_count,
    cast({{ held('registered', 'quasi', "extract(year from source.comparison_mri_date)") }} as integer) as comparison_mri_year,
    cast({{ held('registered', 'sensitive', "source.new_t1_lesion_count") }} as bigint) as new_t1_lesion_count,
    cast({{ held('registered', 'sensitive', "source.new_t2_lesion_count") }} as bigint) as new_t2_lesion_count,
    cast({{ held('registered', 'sensitive', "source.enlarging_t2_lesion_count") }} as bigint) as enlarging_t2_lesion_count,
    cast({{ held('registered', 'sensitive', "source.is_mri_stable") }} as boolean) as is_mri_stable,
    cast({{ held('registered', 'sensitive', "source.brain_atrophy") }} as varchar) as brain_atrophy,
    cast({{ held('registered', 'sensitive', "source.is_dissemination_in_space_met") }} as boolean) as is_dissemination_in_space_met,
    cast({{ held('registered', 'sensitive', "source.is_dissemination_in_time_met") }} as boolean) as is_dissemination_in_time_met
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, session_number
