{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('mart_imaging_qa') }}
)

select
    cast(series_key as varchar) as series_key,
    cast(session_key as varchar) as session_key,
    cast(subject_key as varchar) as subject_key,
    cast(contrast as varchar) as contrast,
    cast(is_derived as boolean) as is_derived,
    cast(is_contrast_enhanced as boolean) as is_contrast_enhanced,
    cast(extract(year from acquisition_datetime) as integer) as acquisition_year,
    cast(acquisition_dimension as varchar) as acquisition_dimension,
    cast(round(field_strength_t * 2) / 2 as double) as field_strength_t,
    cast(round(slice_thickness_mm * 2) / 2 as double) as slice_thickness_mm,
    cast(missing_slices_count as integer) as missing_slices_count,
    cast(verdict as varchar) as verdict,
    cast(rule_ids as varchar) as rule_ids,
    cast(edss as double) as edss,
    cast(snr_value as double) as snr_value,
    cast(cnr_value as double) as cnr_value,
    cast(cjv_value as double) as cjv_value,
    cast(efc_value as double) as efc_value,
    cast(fber_value as double) as fber_value
from source
where is_shared
