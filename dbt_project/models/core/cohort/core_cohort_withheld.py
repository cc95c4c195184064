"""Complementary suppression: which counts must be withheld so that no small one can be worked out.

The search is `warehouse.disclosure`; it is Python because each step asks a solver what an attacker could work out.
"""

import os

from warehouse import disclosure


def model(dbt, session):
    dbt.config(materialized="table")
    return disclosure.withheld_table(
        now=dbt.ref("core_cohort_count").pl(),
        published=dbt.source("published", "published_cohort").pl(),
        basis=dbt.source("published", "published_basis").pl(),
        small_count_maximum=int(os.environ["RANVIER_SMALL_COUNT_MAXIMUM"]),
        rounding=int(os.environ["RANVIER_ROUNDING"]),
    ).to_arrow()
