"""`ranvier policy`: what each tier holds and why, and which preset the network follows."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orchestration.commands import HomeOption, out, save_network
from warehouse.errors import DictionaryError
from warehouse.home import find_home

if TYPE_CHECKING:
    from warehouse.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Which tier holds what: the policy and its presets.")


@app.command("show")
def policy_show(
    tier: Annotated[str | None, typer.Argument(help="A tier; without one, all of them in short.")] = None,
    home: HomeOption = None,
    preset: Annotated[str | None, typer.Option(help="Show this preset instead of the home's policy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a tier holds, column by column, and why. Example: ranvier policy show registered"""
    from warehouse import policy_words
    from warehouse.policy import load_preset

    policy = _chosen(preset or "current", home)
    if tier is not None and tier not in policy.tiers:
        raise DictionaryError(f"There is no tier {tier[:20]!r}; there are {', '.join(policy.tiers)}")
    if as_json:
        sys.stdout.write(json.dumps(policy_words.as_data(policy, tier), ensure_ascii=False, indent=1) + "\n")
        return
    calls = load_preset(policy.preset).calls
    out.print(f"Preset {policy.preset}", style="bold")
    for name in [tier] if tier else list(policy.tiers):
        called = f" ({calls[name]})" if name in calls else ""
        out.print(f"\n{name}{called}: {policy.rules[name].who}", style="bold")
        for line in policy_words.rule_words(policy, name):
            out.print(f"  {line}", highlight=False, soft_wrap=True)
        if tier:
            table = Table("table", "column", "class", "what becomes of it", "why")
            for row in policy_words.column_words(policy, name):
                table.add_row(*row)
            out.print(table)
    if not tier:
        out.print(
            f"\nPresets: {', '.join(policy_words.preset_names())}. One tier by column: ranvier policy show registered"
        )


@app.command("diff")
def policy_diff(
    first: Annotated[str, typer.Argument(help="A preset, a YAML file of a preset, or: current.")],
    second: Annotated[str, typer.Argument(help="What to compare with.")] = "current",
    home: HomeOption = None,
) -> None:
    """Say how two policies differ. Example: ranvier policy diff default hcp"""
    from warehouse.policy_words import differences

    found = differences(_chosen(first, home), _chosen(second, home))
    for line in found or ["They do the same."]:
        out.print(line, highlight=False, soft_wrap=True)


@app.command("apply")
def policy_apply(
    preset: Annotated[str, typer.Argument(help="default, hcp or opensafely.")],
    home: HomeOption = None,
) -> None:
    """Make the network follow a preset. Example: ranvier policy apply hcp"""
    from warehouse.policy import in_force, load_policy
    from warehouse.policy_words import differences

    place = find_home(home)
    network = place.network()
    before = in_force(load_policy(), network)
    chosen = network.model_copy(update={"policy": network.policy | {"preset": preset}})
    after = in_force(load_policy(), chosen)
    save_network(place, chosen)
    changes = differences(before, after)
    if not changes:
        out.print(f"The network follows {preset}; nothing changes in the next release.")
        return
    out.print(f"The network follows {preset}. The next release (ranvier run) changes:")
    for line in changes:
        out.print(f"  {line}", highlight=False, soft_wrap=True)


def _chosen(name: str, home: Path | None) -> "Policy":
    from warehouse.policy import in_force, load_policy, load_preset, with_preset

    if name == "current":
        place = find_home(home)
        return in_force(load_policy(), place.network())
    is_file = name.endswith((".yaml", ".yml"))
    return with_preset(load_policy(), load_preset(Path(name) if is_file else name))
