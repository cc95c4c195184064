select site_code
from {{ ref('mart_site_kpi') }}
where series_received_count != series_accepted_count + series_refused_count
