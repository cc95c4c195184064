{#- Whether the aggregates are counted anew. Two releases that differ by a few subjects would tell what those few are, so
    the published tables stay as they are until enough subjects joined, left or changed, or the rule is another. -#}
with now as (
    select * from {{ ref('core_cohort_subject') }}
),

before as (
    select * from {{ source('published', 'published_subject') }}
),

changed as (
    select count(*) as subject_count
    from now
    full join before
        on now.subject_key = before.subject_key
    where now.strata_digest is distinct from before.strata_digest
),

kept as (
    select count(*) as rule_count
    from {{ source('published', 'published_rule') }}
    where small_count_maximum = {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }}
        and rounding = {{ env_var('RANVIER_ROUNDING') }}
)

select
    changed.subject_count as changed_subject_count,
    kept.rule_count = 0 or changed.subject_count > {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }} as is_refreshed
from changed
cross join kept
