"""What Dagster loads: `dagster -m orchestration.definitions`.

Here: the one name a code location needs. Not here: how it is put together (`orchestration.build`), or what the steps
do (`orchestration.steps`).
"""

import dagster as dg

from orchestration.build import build_defs


@dg.definitions
def defs() -> dg.Definitions:
    """Everything Dagster knows of the home that RANVIER_HOME names."""
    return build_defs()
