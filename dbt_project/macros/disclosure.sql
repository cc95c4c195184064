{# The disclosure rule of aggregates. Redact small counts first, then round the others: rounding first would turn a
   count of 8 into 10 and one of 7 into 5, and tell which of the two was redacted. #}

{# Whether a count may be shown at all: more than the maximum, and none or more than the maximum without the site that
   knows most of it. `own` is the largest count of one site, which can subtract it. #}
{% macro is_large(subjects, own) -%}
    ({{ subjects }} > {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }}
        and ({{ subjects }} = {{ own }}
            or {{ subjects }} - {{ own }} > {{ env_var('RANVIER_SMALL_COUNT_MAXIMUM') }}))
{%- endmacro %}

{% macro rounded(count) -%}
    cast(round({{ count }} / {{ env_var('RANVIER_ROUNDING') }}.0) * {{ env_var('RANVIER_ROUNDING') }} as bigint)
{%- endmacro %}

{# A table as it may be published: `relation` has stratum_kind, stratum, subject_count, largest_site_count and
   is_withheld. Each kind of `totals` gets a total of what is shown, which therefore tells nothing about what is not. #}
{% macro published_strata(relation, totals) %}
select
    stratum_kind,
    stratum,
    subject_count,
    case
        when {{ is_large('subject_count', 'largest_site_count') }} and not is_withheld
        then {{ rounded('subject_count') }}
    end as published_subject_count
from {{ relation }}
union all
select
    stratum_kind,
    'total',
    sum(subject_count),
    sum(case
        when {{ is_large('subject_count', 'largest_site_count') }} and not is_withheld
        then {{ rounded('subject_count') }}
    end)
from {{ relation }}
where stratum_kind in ('{{ totals | join("', '") }}')
group by stratum_kind
{% endmacro %}

{# In a tier's model: the form of a count, or of a value beside it, that may be published. It is made once, in
   core_published_*, so that no two files show one count in two ways. #}
{% macro redacted(column) -%}
    published_{{ column }}
{%- endmacro %}

{% macro unless_small(column) -%}
    published_{{ column }}
{%- endmacro %}

{# The two-way tables of the catalogue, as (rows, columns); the same as in warehouse/policy/disclosure.yaml, which a test
   holds them to. #}
{% macro crossings() -%}
    {{ return([
        ('sex', 'disease_course'),
        ('sex', 'age_at_onset'),
        ('disease_course', 'edss_band'),
    ]) }}
{%- endmacro %}

{% macro partitions() -%}
    {{ return(['sex', 'disease_course', 'age_at_onset', 'edss_band']) }}
{%- endmacro %}

{# Names of the dictionary's variables of a table. #}
{% macro variable_names(entity) -%}
    {{ return((variables_of(entity, '') | replace('\n', '') | replace(' ', '')).lstrip('.').split(',.')) }}
{%- endmacro %}
