"""Dagster's side of each domain: assets, checks, sensors and jobs.

Here: one folder per job. Not here: domain logic; an asset calls one function of `orchestration.steps`.
"""
