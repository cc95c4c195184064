{%- set limit = env_var('RANVIER_SMALL_COUNT_MAXIMUM') -%}
with counts as (
    select subject_count as n from {{ ref('open__mart_cohort_catalogue') }}
    union all
    select subject_count from {{ ref('open__mart_imaging_qa') }}
    union all
    select series_count from {{ ref('open__mart_imaging_qa') }}
)

-- A count just above the limit may round down to a multiple that is not above it, but never by half the base or more.
select n
from counts
where n % {{ env_var('RANVIER_ROUNDING') }} != 0
    or n <= {{ limit }} - {{ env_var('RANVIER_ROUNDING') }} / 2.0
