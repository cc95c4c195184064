"""Orchestration: the Dagster definitions and the `ranvier` command line. No domain logic."""
