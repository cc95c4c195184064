{#- Every key of a person, session or series in `registered` must belong to a subject who shares. -#}
with shared as (
    select * from {{ ref('core_subject') }} where is_shared
),

registered as (
    {%- for table in ['dim_subject', 'fct_visit', 'fct_relapse', 'fct_treatment', 'fct_mri_session', 'fct_mri_series',
        'fct_image_measure', 'fct_verdict', 'mart_imaging_qa'] %}
    select subject_key from {{ ref('registered__' ~ table) }}
    {{- ' union' if not loop.last }}
    {%- endfor %}
)

select registered.subject_key
from registered
anti join shared
    on registered.subject_key = shared.subject_key
