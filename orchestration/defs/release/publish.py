"""The `publish_release` job: a data manager makes a finished release the current one, from the browser.

Here: its form. Not here: what is checked before (`warehouse.releases.publish`), building (`assets.py`).
"""

import dagster as dg
from pydantic import Field

from orchestration.defs.resources import Workplace
from warehouse import releases


class Decision(dg.Config):
    """What is decided, by whom and why."""

    version: str = Field(description="The release to publish, such as 2026-11-24.1.")
    reason: str = Field(description="Why; it stands in the audit log.")
    by: str = Field(description="Your name; it stands in the audit log.")


@dg.op(name="publish", description="Compare the release with its manifest, ask the gate's result, then publish it.")
def publish_op(context: dg.OpExecutionContext, workplace: Workplace, config: Decision) -> None:
    """Publish, or fail with the sentence that says what is wrong; the current release stays then."""
    before = releases.current_version(workplace.home)
    releases.publish(workplace.home, config.version, by=config.by, reason=config.reason)
    context.add_output_metadata({"release_version": config.version, "instead_of": before or "none"})


@dg.job(
    name="publish_release",
    executor_def=dg.in_process_executor,
    description="Make a finished release the current one. Give its version, your name and the reason.",
    tags={"ranvier/room": "release"},
)
def publish_release_job() -> None:
    """One decision."""
    publish_op()
