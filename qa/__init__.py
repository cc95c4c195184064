"""QA: variables against the dictionary, image measures, verdicts, findings, site reports.

Nothing here knows Dagster or a site's file formats.
"""
