{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('mart_imaging_qa') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.series_key as varchar) as series_key,
    cast(source.session_key as varchar) as session_key,
    cast(source.subject_key as varchar) as subject_key,
    cast(source.contrast as varchar) as contrast,
    cast(source.is_derived as boolean) as is_derived,
    cast(source.is_contrast_enhanced as boolean) as is_contrast_enhanced,
    cast({{ held('registered', 'quasi', "extract(year from source.acquisition_datetime)") }} as integer) as acquisition_year,
    cast(source.acquisition_dimension as varchar) as acquisition_dimension,
    cast(round(source.field_strength_t * 2) / 2 as double) as field_strength_t,
    cast(round(source.slice_thickness_mm * 2) / 2 as double) as slice_thickness_mm,
    cast(source.missing_slices_count as integer) as missing_slices_count,
    cast(source.verdict as varchar) as verdict,
    cast(source.rule_ids as varchar) as rule_ids,
    cast({{ held('registered', 'sensitive', "source.edss") }} as double) as edss,
    cast(source.snr_total_value as double) as snr_total_value,
    cast(source.cnr_value as double) as cnr_value,
    cast(source.cjv_value as double) as cjv_value,
    cast(source.efc_value as double) as efc_value,
    cast(source.fber_value as double) as fber_value
from source
inner join person
    on source.subject_key = person.subject_key
order by series_key
