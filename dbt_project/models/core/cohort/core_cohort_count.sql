with member as (
    select * from {{ ref('core_cohort_member') }}
),

counted as (
    select site_code, stratum_kind, stratum, count(distinct subject_key) as subject_count
    from member
    group by all
),

-- A cell of a two-way table that nobody is in stands there like a small one, so that the two cannot be told apart.
crossed as (
    {%- for row, column in crossings() %}
    select distinct '{{ row }} and {{ column }}' as stratum_kind, one.stratum || ' and ' || other.stratum as stratum
    from counted as one
    cross join counted as other
    where one.stratum_kind = '{{ row }}' and other.stratum_kind = '{{ column }}'
    {{- ' union all' if not loop.last }}
    {%- endfor %}
),

cell as (
    select stratum_kind, stratum from crossed
    union
    select stratum_kind, stratum from counted
),

site as (
    select distinct site_code from counted
)

select
    site.site_code,
    cell.stratum_kind,
    cell.stratum,
    coalesce(counted.subject_count, 0) as subject_count
from cell
cross join site
left join counted
    on site.site_code = counted.site_code
    and cell.stratum_kind = counted.stratum_kind
    and cell.stratum = counted.stratum
