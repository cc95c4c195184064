"""The `release` job: from accepted deliveries to published tier files and reports, once for the network.

Here: its assets, sensor and job. Not here: SQL (`dbt_project/`), tiers and the gate (`warehouse.releases`).
"""
