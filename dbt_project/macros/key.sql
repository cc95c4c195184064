{# The columns together are a key: none of them is empty, and no two rows share them. Rows are grouped by a hash first, which
   over millions of rows takes a fraction of the memory; only rows whose hash stands twice are compared. #}
{% test key(model, columns) %}
    with suspect as (
        select hash({{ columns | join(', ') }}) as key_hash
        from {{ model }}
        group by 1
        having count(*) > 1
    )

    select {{ columns | join(', ') }}
    from {{ model }}
    where hash({{ columns | join(', ') }}) in (select key_hash from suspect)
        {%- for column in columns %}
        or {{ column }} is null
        {%- endfor %}
    group by {{ columns | join(', ') }}
    having count(*) > 1
        {%- for column in columns %}
        or {{ column }} is null
        {%- endfor %}
{% endtest %}
