with series as (
    select * from {{ ref('fct_mri_series') }}
),

verdict as (
    select * from {{ ref('fct_verdict') }}
),

measure as (
    select * from {{ ref('fct_image_measure') }}
),

visit as (
    select * from {{ ref('fct_visit') }}
),

wide as (
    select
        series_key,
        {%- for name in wide_measures() %}
        max(value) filter (where measure = '{{ name }}') as {{ name }}_value
        {{- ',' if not loop.last }}
        {%- endfor %}
    from measure
    group by series_key
),

-- Half a year: an EDSS further away says little about the day of the scan.
nearest as (
    select
        series.series_key,
        visit.edss,
        abs(date_diff('day', series.acquisition_datetime::date, visit.visit_date))
            as edss_days_apart
    from series
    inner join visit
        on series.subject_key = visit.subject_key
    where visit.edss is not null and edss_days_apart <= 180
    qualify row_number() over (
        partition by series.series_key
        order by edss_days_apart, visit.visit_number
    ) = 1
),

final as (
    select
        series.*,
        verdict.verdict,
        verdict.rule_ids,
        nearest.edss,
        nearest.edss_days_apart,
        wide.* exclude (series_key)
    from series
    left join verdict on series.series_key = verdict.series_key
    left join nearest on series.series_key = nearest.series_key
    left join wide on series.series_key = wide.series_key
)

select
    {{ columns_of('mart_imaging_qa') }}
from final
