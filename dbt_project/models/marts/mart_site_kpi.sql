with site as (
    select * from {{ ref('dim_site') }}
),

counts as (
    select site_code, 'deliveries_received' as what, count(*) as n
    from {{ source('raw_lake', 'raw_lake__delivery') }}
    group by site_code
    union all
    select site_code, 'deliveries_unreadable', count(*)
    from {{ source('raw_lake', 'raw_lake__delivery') }}
    where status = 'unreadable'
    group by site_code
    union all
    select site_code, 'deliveries_accepted', count(*)
    from {{ ref('stg_lake__accepted') }}
    group by site_code
    union all
    select file.site_code, 'files_received', count(*)
    from {{ source('raw_lake', 'raw_lake__file') }} as file
    semi join {{ ref('stg_lake__accepted') }} as accepted
        on file.site_code = accepted.site_code
        and file.delivery_key = accepted.delivery_key
    group by file.site_code
    union all
    select file.site_code, 'files_refused', count(*)
    from {{ source('raw_lake', 'raw_lake__file') }} as file
    semi join {{ ref('stg_lake__accepted') }} as accepted
        on file.site_code = accepted.site_code
        and file.delivery_key = accepted.delivery_key
    where file.status = 'refused'
    group by file.site_code
    union all
    select refusal.site_code, 'rows_unreadable', count(*)
    from {{ source('raw_registry', 'raw_registry__refusal') }} as refusal
    semi join {{ ref('stg_lake__accepted') }} as accepted
        on refusal.site_code = accepted.site_code
        and refusal.delivery_key = accepted.delivery_key
    group by refusal.site_code
    union all
    select refused.site_code, 'rows_refused', count(distinct refused.row_key)
    from {{ source('raw_qa', 'raw_qa__refused_row') }} as refused
    semi join {{ ref('stg_lake__accepted') }} as accepted
        on refused.site_code = accepted.site_code
        and refused.delivery_key = accepted.delivery_key
    group by refused.site_code
    union all
    select site_code, 'subjects', count(*)
    from {{ ref('core_subject') }}
    group by site_code
    union all
    select site_code, 'subjects_shared', count(*)
    from {{ ref('core_subject') }}
    where is_shared
    group by site_code
    union all
    select site_code, 'visits', count(*)
    from {{ ref('fct_visit') }}
    group by site_code
    union all
    select site_code, 'relapses', count(*)
    from {{ ref('fct_relapse') }}
    group by site_code
    union all
    select
        site_code,
        case when is_refused then 'series_refused' else 'series_accepted' end,
        count(*)
    from {{ ref('stg_imaging__series') }}
    group by 1, 2
    union all
    select site_code, 'series_received', count(*)
    from {{ ref('stg_imaging__series') }}
    group by site_code
    union all
    select site_code, 'series_' || verdict, count(*)
    from {{ ref('fct_verdict') }}
    where not coalesce(is_refused, false)
    group by 1, 2
    union all
    select site_code, 'findings_open', count(*)
    from {{ ref('fct_finding') }}
    where state not in ('resolved', 'accepted', 'rejected')
    group by site_code
),

final as (
    select
        site.site_code,
        site.release_version,
        {%- for what in [
            'deliveries_received', 'deliveries_accepted', 'deliveries_unreadable', 'files_received', 'files_refused',
            'rows_unreadable', 'rows_refused', 'subjects', 'subjects_shared', 'visits', 'relapses', 'series_received',
            'series_refused', 'series_accepted', 'series_pass', 'series_fail', 'series_undetermined', 'findings_open'
        ] %}
        coalesce(sum(n) filter (where what = '{{ what }}'), 0) as {{ what }}_count
        {{- ',' if not loop.last }}
        {%- endfor %}
    from site
    left join counts
        on site.site_code = counts.site_code
    group by site.site_code, site.release_version
)

select
    {{ columns_of('mart_site_kpi') }}
from final
