{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_treatment') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.course_number as integer) as course_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.start_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'sensitive', rare_merged('source.dmt', 'source.subject_key', rare_maximum())) }} as varchar) as dmt,
    cast({{ held('registered', 'quasi', "extract(year from source.start_date)") }} as integer) as start_year,
    cast({{ held('registered', 'quasi', "extract(year from source.stop_date)") }} as integer) as stop_year,
    cast({{ held('registered', 'sensitive', rare_merged('source.stop_reason', 'source.subject_key', rare_maximum())) }} as varchar) as stop_reason,
    cast({{ held('registered', 'sensitive', "source.dose") }} as double) as dose,
    cast(source.dose_unit as varchar) as dose_unit,
    cast({{ held('registered', 'sensitive', "source.dose_count") }} as bigint) as dose_count,
    cast(source.dose_interval as varchar) as dose_interval,
    cast(source.route as varchar) as route
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, course_number
