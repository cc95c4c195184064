{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with source as (
    select * from {{ ref('fct_csf') }} where is_shared
),

person as (
    select * from {{ ref('core_registered_subject') }} where is_kept
)

select
    cast(source.subject_key as varchar) as subject_key,
    cast(source.csf_number as integer) as csf_number,
    cast({{ held('registered', 'quasi', age_band('person.birth_anchor', 'source.csf_date')) }} as varchar) as age_band,
    cast({{ held('registered', 'quasi', "extract(year from source.csf_date)") }} as integer) as csf_year,
    cast({{ held('registered', 'sensitive', "source.oligoclonal_bands") }} as varchar) as oligoclonal_bands,
    cast({{ held('registered', 'sensitive', "source.csf_cell_count_per_ul") }} as bigint) as csf_cell_count_per_ul,
    cast({{ held('registered', 'sensitive', "source.csf_protein_mg_l") }} as double) as csf_protein_mg_l,
    cast({{ held('registered', 'sensitive', "source.csf_igg_index") }} as double) as csf_igg_index,
    cast({{ held('registered', 'sensitive', "source.kappa_free_light_chain_index") }} as double) as kappa_free_light_chain_index
from source
inner join person
    on source.subject_key = person.subject_key
order by subject_key, csf_number
