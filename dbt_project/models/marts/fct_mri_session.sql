with series as (
    select * from {{ ref('fct_mri_series') }}
),

registry as (
    select * from {{ ref('core_mri_session') }}
),

subject as (
    select * from {{ ref('core_subject') }}
),

imaged as (
    select
        subject_key,
        session_key,
        any_value(site_code) as site_code,
        max(delivery_key) as delivery_key,
        min(acquisition_datetime)::date as session_date,
        count(*) as series_count
    from series
    group by subject_key, session_key
),

-- Two image sessions on one day share one report; it goes to the first.
ranked as (
    select
        *,
        row_number() over (
            partition by subject_key, session_date
            order by session_key
        ) as place
    from imaged
),

sessions as (
    select
        coalesce(ranked.subject_key, registry.subject_key) as subject_key,
        ranked.session_key,
        coalesce(ranked.session_date, registry.mri_date) as session_date,
        coalesce(ranked.series_count, 0) as series_count,
        registry.row_key is not null as is_reported,
        registry.row_key,
        registry.source_row,
        {{ variables_of('mri_session', 'registry') }},
        coalesce(ranked.site_code, registry.site_code) as site_code,
        coalesce(ranked.delivery_key, registry.delivery_key) as delivery_key
    from ranked
    full outer join registry
        on ranked.subject_key = registry.subject_key
        and ranked.session_date = registry.mri_date
        and ranked.place = 1
),

final as (
    select
        sessions.*,
        row_number() over (
            partition by sessions.subject_key
            order by sessions.session_date, sessions.session_key, sessions.row_key
        ) as session_number,
        {{ age_band('subject.birth_date', 'sessions.session_date') }} as age_band,
        {{ age_years('subject.birth_date', 'sessions.session_date') }} as age_years,
        '{{ env_var('RANVIER_VERSION') }}' as release_version,
        coalesce(subject.is_image_shared, false) as is_shared
    from sessions
    left join subject
        on sessions.subject_key = subject.subject_key
)

select
    {{ columns_of('fct_mri_session') }}
from final
