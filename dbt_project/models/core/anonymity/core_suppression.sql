{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
{%- set rule = fromjson(env_var('RANVIER_POLICY')).registered -%}
{{ suppression_counts('registered.duckdb', ref('core_registered_subject'), rule.quasi + rule.sensitive) }}
