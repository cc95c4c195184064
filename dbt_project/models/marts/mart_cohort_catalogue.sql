with subject as (
    select * from {{ ref('dim_subject') }} where is_shared
),

treatment as (
    select * from {{ ref('fct_treatment') }} where is_shared
),

series as (
    select * from {{ ref('fct_mri_series') }} where is_shared
),

strata as (
    select 'all' as stratum_kind, 'all' as stratum, subject_key
    from subject
    union
    select 'sex', sex, subject_key
    from subject
    union
    select 'disease_course', disease_course, subject_key
    from subject
    union
    select 'age_at_onset', age_at_onset_band, subject_key
    from subject
    union
    select 'dmt', dmt, subject_key
    from treatment
    union
    select 'contrast', contrast, subject_key
    from series
    {%- for fact in ['visit', 'relapse', 'treatment'] %}
    union
    select 'has', '{{ fact }}', subject_key
    from {{ ref('fct_' ~ fact) }}
    where is_shared
    {%- endfor %}
),

final as (
    select
        stratum_kind,
        coalesce(stratum, 'unknown') as stratum,
        count(distinct subject_key) as subject_count
    from strata
    group by 1, 2
)

select
    {{ columns_of('mart_cohort_catalogue') }}
from final
