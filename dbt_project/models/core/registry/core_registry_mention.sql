{# Written by `python -m warehouse.catalogue` from the dictionary and the policy; change those instead. #}
{{ config(materialized='view') }}
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_adverse_event') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_comorbidity') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_csf') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_diagnosis') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_evoked_potential') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_laboratory') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_mri_session') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_neuropsychology') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_pregnancy') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_questionnaire') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_relapse') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_treatment') }}
union all
select distinct subject_key, site_code, delivery_key, sequence_number
from {{ ref('core_visit') }}
