{# k-anonymity and l-diversity by local suppression, for a relation `person` with one row per subject.

   `quasi` are the quasi-identifiers in the order in which they are given up. At step j the first j of them are empty.
   A class (rows that show the same) that is large and diverse enough is settled. One that is not absorbs the smallest
   settled class that shows the same at this step; with a good class inside it, it is good. What is left goes on to the
   next step. At the last step everything is empty, so every row meets every class. Rows are left over only where the
   whole relation is no good class: fewer than k rows are not kept; where the values are too few, they are emptied.

   The common table expressions end in `anonymous`: subject_key, is_kept, each column, is_<column>_suppressed. #}
{% macro same(columns, left, right) -%}
    {%- for column in columns %}
        {{ left }}.{{ column }} is not distinct from {{ right }}.{{ column }}{{ ' and' if not loop.last }}
    {%- else %}
        true
    {%- endfor %}
{%- endmacro %}

{% macro anonymity_steps(quasi, sensitive, k, l) -%}
state_0 as materialized (
    select
        subject_key,
        {%- for column in quasi + sensitive %}
        {{ column }},
        {%- endfor %}
        cast(null as integer) as step
    from person
),
{%- for j in range(quasi | length + 1) %}
{%- set shown = quasi[j:] %}

class_{{ j }} as materialized (
    select
        {%- for column in shown %}
        {{ column }},
        {%- endfor %}
        count(*) >= {{ k }}
        {%- for column in sensitive if l > 1 %}
            and count(distinct {{ column }}) >= {{ l }}
        {%- endfor %} as is_good
    from state_{{ j }}
    where step is null
    {%- if shown %}
    group by {{ shown | join(', ') }}
    {%- else %}
    having count(*) > 0
    {%- endif %}
),

settled_{{ j }} as materialized (
    select step, {{ (quasi + ['count(*) as size']) | join(', ') }}
    from state_{{ j }}
    where step is not null
    group by {{ (['step'] + quasi) | join(', ') }}
),

absorbed_{{ j }} as materialized (
    select settled_{{ j }}.*
    from class_{{ j }}
    inner join settled_{{ j }}
        on {{ same(shown, 'class_' ~ j, 'settled_' ~ j) }}
    where not class_{{ j }}.is_good
    qualify row_number() over (
        {%- if shown %}
        partition by {% for column in shown %}settled_{{ j }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
        {%- endif %}
        order by {% for column in ['size', 'step'] + quasi %}settled_{{ j }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
    ) = 1
),

done_{{ j }} as materialized (
    select class_{{ j }}.*
    from class_{{ j }}
    where class_{{ j }}.is_good
    union all
    select {{ (shown + ['true']) | join(', ') }}
    from absorbed_{{ j }}
),

state_{{ j + 1 }} as materialized (
    select
        state_{{ j }}.subject_key,
        {%- for column in quasi %}
        {%- if column in shown %}
        state_{{ j }}.{{ column }},
        {%- else %}
        case when done_{{ j }}.is_good is null then state_{{ j }}.{{ column }} end as {{ column }},
        {%- endif %}
        {%- endfor %}
        {%- for column in sensitive %}
        state_{{ j }}.{{ column }},
        {%- endfor %}
        case when done_{{ j }}.is_good then {{ j }} end as step
    from (select * from state_{{ j }} where step is null) as state_{{ j }}
    left join done_{{ j }}
        on {{ same(shown, 'state_' ~ j, 'done_' ~ j) }}
    union all
    select
        state_{{ j }}.subject_key,
        {%- for column in quasi %}
        {%- if column in shown %}
        state_{{ j }}.{{ column }},
        {%- else %}
        case when absorbed_{{ j }}.size is null then state_{{ j }}.{{ column }} end as {{ column }},
        {%- endif %}
        {%- endfor %}
        {%- for column in sensitive %}
        state_{{ j }}.{{ column }},
        {%- endfor %}
        case when absorbed_{{ j }}.size is null then state_{{ j }}.step else {{ j }} end
    from (select * from state_{{ j }} where step is not null) as state_{{ j }}
    left join absorbed_{{ j }}
        on {{ same(['step'] + quasi, 'state_' ~ j, 'absorbed_' ~ j) }}
),
{%- endfor %}

anonymous as materialized (
    select
        person.subject_key,
        ended.step is not null or count(*) over () >= {{ k }} as is_kept,
        {%- for column in quasi %}
        case when ended.step is not null then ended.{{ column }} end as {{ column }},
        {%- endfor %}
        {%- for column in sensitive %}
        case when ended.step is not null then ended.{{ column }} end as {{ column }},
        {%- endfor %}
        {%- for column in quasi + sensitive %}
        person.{{ column }} is not null and (
            ended.step is null or ended.{{ column }} is null
        ) as is_{{ column }}_suppressed{{ ',' if not loop.last }}
        {%- endfor %}
    from person
    inner join state_{{ quasi | length + 1 }} as ended
        on person.subject_key = ended.subject_key
)
{%- endmacro %}

{# Per column of a file: how many cells k-anonymity emptied among the subjects kept, and how many subjects it left out. #}
{% macro suppression_counts(file, relation, columns) -%}
    {%- for column in columns %}
select
    '{{ file }}' as file,
    '{{ column }}' as column_name,
    count(*) filter (where is_kept) as subjects_count,
    count(*) filter (where is_kept and is_{{ column }}_suppressed) as suppressed_count,
    count(*) filter (where not is_kept) as left_out_count
from {{ relation }}
{{- ' union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
