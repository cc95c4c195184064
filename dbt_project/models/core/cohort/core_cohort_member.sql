with subject as (
    select * from {{ ref('dim_subject') }} where is_shared
),
{% for entity, mart in event_tables() %}
{{ entity }} as (
    select * from {{ ref(mart) }} where is_shared
),
{% endfor %}
series as (
    select * from {{ ref('fct_mri_series') }} where is_shared
),

latest_edss as (
    select subject_key, arg_max(edss, visit_date) filter (edss is not null) as edss
    from visit
    group by subject_key
),

described as (
    select
        subject.subject_key,
        coalesce(subject.sex, 'unknown') as sex,
        coalesce(subject.disease_course, 'unknown') as disease_course,
        coalesce(subject.age_at_onset_band, 'unknown') as age_at_onset,
        case
            when latest_edss.edss is null then 'unknown'
            when latest_edss.edss < 4 then '0-3.5'
            when latest_edss.edss < 6.5 then '4-6'
            else '6.5-10'
        end as edss_band
    from subject
    left join latest_edss
        on subject.subject_key = latest_edss.subject_key
),

strata as (
    select subject_key, 'all' as stratum_kind, 'all' as stratum
    from described
    {%- for kind in ['sex', 'disease_course', 'age_at_onset', 'edss_band'] %}
    union all
    select subject_key, '{{ kind }}', {{ kind }}
    from described
    {%- endfor %}
    {%- for row, column in crossings() %}
    union all
    select subject_key, '{{ row }} and {{ column }}', {{ row }} || ' and ' || {{ column }}
    from described
    {%- endfor %}
    union all
    select distinct subject_key, 'dmt', coalesce(dmt, 'unknown')
    from treatment
    union all
    select distinct subject_key, 'contrast', coalesce(contrast, 'unknown')
    from series
    union all
    select distinct subject_key, 'visit_year', coalesce(extract(year from visit_date)::varchar, 'unknown')
    from visit
    union all
    select distinct subject_key, 'has', 'mri_series'
    from series
    {%- for entity, mart in event_tables() %}
    union all
    select distinct subject_key, 'has', '{{ entity }}'
    from {{ entity }}
    {%- endfor %}
    {%- for entity in ['patient'] + event_tables() | map('first') | list %}
    union all
    select
        subject_key,
        'variable',
        unnest([
            {%- for name in variable_names(entity) %}
            case when bool_or({{ name }} is not null) then '{{ name }}' end
            {{- ',' if not loop.last }}
            {%- endfor %}
        ])
    from {{ 'subject' if entity == 'patient' else entity }}
    group by subject_key
    {%- endfor %}
)

select
    strata.subject_key,
    subject.site_code,
    strata.stratum_kind,
    strata.stratum
from strata
inner join subject
    on strata.subject_key = subject.subject_key
where strata.stratum is not null
