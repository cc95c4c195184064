{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_neuropsychology') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.neuropsychology_number as integer) as neuropsychology_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.neuropsychology_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.neuropsychology_date)") }} as integer) as neuropsychology_year,
    cast(source.brbn_version as varchar) as brbn_version,
    cast({{ held('registered', 'sensitive', "source.srt_lts_score") }} as bigint) as srt_lts_score,
    cast({{ held('registered', 'sensitive', "source.srt_cltr_score") }} as bigint) as srt_cltr_score,
    cast({{ held('registered', 'sensitive', "source.srt_delayed_score") }} as bigint) as srt_delayed_score,
    cast({{ held('registered', 'sensitive', "source.spart_score") }} as bigint) as spart_score,
    cast({{ held('registered', 'sensitive', "source.spart_delayed_score") }} as bigint) as spart_delayed_score,
    cast({{ held('registered', 'sensitive', "source.brbn_sdmt_score") }} as bigint) as brbn_sdmt_score,
    cast({{ held('registered', 'sensitive', "source.brbn_pasat3_score") }} as bigint) as brbn_pasat3_score,
    cast({{ held('registered', 'sensitive', "source.brbn_pasat2_score") }} as bigint) as brbn_pasat2_score,
    cast({{ held('registered', 'sensitive', "source.word_list_score") }} as bigint) as word_list_score
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, neuropsychology_number
