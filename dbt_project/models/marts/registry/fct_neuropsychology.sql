{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
with neuropsychology as (
    select * from {{ ref('core_neuropsychology') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

final as (
    select
        neuropsychology.row_key,
        neuropsychology.source_row,
        neuropsychology.subject_key,
        row_number() over (
            partition by neuropsychology.subject_key
            order by neuropsychology_date, neuropsychology.row_key
        ) as neuropsychology_number,
        {{ variables_of('neuropsychology', 'neuropsychology') }},
        {{ age_band('subject.birth_date', 'neuropsychology.neuropsychology_date') }} as age_band,
        {{ age_years('subject.birth_date', 'neuropsychology.neuropsychology_date') }} as age_years,
        neuropsychology.site_code,
        neuropsychology.delivery_key,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        subject.is_shared
    from neuropsychology
    inner join subject
        on neuropsychology.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_neuropsychology') }}
from final
