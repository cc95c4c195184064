{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_visit') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.visit_number as integer) as visit_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.visit_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.visit_date)") }} as integer) as visit_year,
    cast(source.visit_type as varchar) as visit_type,
    cast({{ held('registered', 'sensitive', "source.edss") }} as double) as edss,
    cast({{ held('registered', 'sensitive', "source.fs_pyramidal") }} as bigint) as fs_pyramidal,
    cast({{ held('registered', 'sensitive', "source.fs_cerebellar") }} as bigint) as fs_cerebellar,
    cast({{ held('registered', 'sensitive', "source.fs_visual") }} as bigint) as fs_visual,
    cast({{ held('registered', 'sensitive', "source.t25fw_s") }} as double) as t25fw_s,
    cast({{ held('registered', 'sensitive', "source.sdmt_score") }} as bigint) as sdmt_score
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, visit_number
