{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_mri_series') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.series_key as varchar) as series_key,
    cast(source.session_key as varchar) as session_key,
    cast(source.subject_key as varchar) as subject_key,
    cast(source.source as varchar) as source,
    cast(source.contrast as varchar) as contrast,
    cast(source.is_derived as boolean) as is_derived,
    cast(source.is_contrast_enhanced as boolean) as is_contrast_enhanced,
    cast({{ held('registered', 'quasi', "extract(year from source.acquisition_datetime)") }} as integer) as acquisition_year,
    cast(source.acquisition_dimension as varchar) as acquisition_dimension,
    cast(round(source.field_strength_t * 2) / 2 as double) as field_strength_t,
    cast(round(source.slice_thickness_mm * 2) / 2 as double) as slice_thickness_mm,
    cast(round(source.spacing_x_mm * 2) / 2 as double) as spacing_x_mm,
    cast(round(source.spacing_y_mm * 2) / 2 as double) as spacing_y_mm,
    cast(round(source.spacing_z_mm * 2) / 2 as double) as spacing_z_mm,
    cast(source.missing_slices_count as integer) as missing_slices_count
from source
inner join person
    on source.subject_key = person.subject_key
order by series_key
