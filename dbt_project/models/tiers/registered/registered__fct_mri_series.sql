{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_mri_series') }}
)

select
    cast(series_key as varchar) as series_key,
    cast(session_key as varchar) as session_key,
    cast(subject_key as varchar) as subject_key,
    cast(source as varchar) as source,
    cast(contrast as varchar) as contrast,
    cast(is_derived as boolean) as is_derived,
    cast(is_contrast_enhanced as boolean) as is_contrast_enhanced,
    cast(extract(year from acquisition_datetime) as integer) as acquisition_year,
    cast(acquisition_dimension as varchar) as acquisition_dimension,
    cast(round(field_strength_t * 2) / 2 as double) as field_strength_t,
    cast(round(slice_thickness_mm * 2) / 2 as double) as slice_thickness_mm,
    cast(round(spacing_x_mm * 2) / 2 as double) as spacing_x_mm,
    cast(round(spacing_y_mm * 2) / 2 as double) as spacing_y_mm,
    cast(round(spacing_z_mm * 2) / 2 as double) as spacing_z_mm,
    cast(missing_slices_count as integer) as missing_slices_count
from source
where is_shared
