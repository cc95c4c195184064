"""`ranvier release`: the life of the warehouse's releases."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.commands import HomeOption, out
from warehouse.home import Home, find_home

app = typer.Typer(no_args_is_help=True, help="Releases of the warehouse.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it stands in the audit log with your name.")]


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def _home(home: Any) -> Home:
    place = find_home(home)
    place.network()  # a folder that is no home is answered with a sentence
    return place


def _summary(home: Home, version: str) -> dict[str, Any]:
    from warehouse import manifest
    from warehouse.releases import current_version

    content = manifest.read(home.releases / version)
    rows = content["row_counts"]
    return {
        "version": version,
        "is_current": version == current_version(home),
        "built_datetime": content["built_datetime"],
        "supersedes": content.get("supersedes"),
        "reason": content.get("reason"),
        "subjects_count": rows["steward.duckdb"].get("dim_subject"),
        "subjects_registered_count": rows["registered.duckdb"].get("dim_subject"),
        "sites_behind": sorted(site for site, state in content["sites"].items() if state["is_newest_delivery_failed"]),
    }


@app.command("list")
def release_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List releases, oldest first, the current one marked. Example: ranvier release list"""
    from warehouse.releases import by_build

    place = _home(home)
    found = [_summary(place, version) for version in by_build(place)]
    if as_json:
        _print_json(found)
        return
    if not found:
        out.print("There is no release yet; make one with: ranvier run")
    for release in found:
        notes = [f"{release['subjects_count']} subjects, {release['subjects_registered_count']} in registered"]
        if release["supersedes"]:
            notes.append(f"instead of {release['supersedes']}: {release['reason']}")
        if release["sites_behind"]:
            notes.append(f"without the newest delivery of {', '.join(release['sites_behind'])}")
        out.print(f"{'*' if release['is_current'] else ' '} {release['version']}  {'; '.join(notes)}", soft_wrap=True)


@app.command("show")
def release_show(
    version: Annotated[str | None, typer.Argument(help="A version; the current release without it.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a release is made of and how to cite it. Example: ranvier release show 2026-11-24.1"""
    from warehouse import citation, manifest
    from warehouse.releases import release_folder

    folder = release_folder(_home(home), version)
    content = manifest.read(folder)
    cite = citation.sentence(folder)
    if as_json:
        _print_json(content | {"citation": cite})
        return
    out.print(f"Release {content['version']}, built {content['built_datetime']}", highlight=False)
    if "supersedes" in content:
        out.print(f"Issued again instead of {content['supersedes']}: {content['reason']}", soft_wrap=True)
    policy = content.get("policy", {"name": "not named"})
    out.print(
        f"Code {content['code_version']}, dictionary {content['dictionary_version']}, policy {policy['name']}: counts"
        f" of {content['small_count_maximum']} or fewer are blank, others rounded to {content['rounding']}",
        soft_wrap=True,
        highlight=False,
    )
    files = Table("file", "tables", "rows", "blank counts", "sha256")
    for name, counts in sorted(content["row_counts"].items()):
        blanks = sum(content.get("suppressed_counts", {}).get(name, {}).values())
        digest = content["files"][name]["sha256"][:12]
        files.add_row(name, str(len(counts)), str(sum(counts.values())), str(blanks), digest)
    out.print(files)
    sites = Table("site", "deliveries in", "newest delivery", "note")
    for site, state in content["sites"].items():
        note = f"left out: {state['failure_reason_code']}" if state["is_newest_delivery_failed"] else ""
        sites.add_row(site, str(len(state["deliveries"])), state["newest_delivery"] or "none", note)
    out.print(sites)
    if cite:
        out.print(f"Cite: {cite}", soft_wrap=True, highlight=False, markup=False)


@app.command("publish")
def release_publish(
    version: str, home: HomeOption = None, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Make a release the current one. Example: ranvier release publish 2026-11-24.1"""
    from warehouse.releases import publish

    publish(_home(home), version, reason=reason)
    _say({"published": version}, f"{version} is the current release.", as_json)


@app.command("diff")
def release_diff(old: str, new: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Compare two releases, in words and counts. Example: ranvier release diff 2026-11-23.1 2026-11-24.1"""
    from warehouse.release_diff import diff

    found = diff(_home(home), old, new)
    if as_json:
        _print_json(found.as_json())
        return
    for sentence in found.words():
        out.print(sentence, soft_wrap=True, highlight=False, markup=False)


@app.command("rollback")
def release_rollback(
    version: Annotated[
        str | None, typer.Argument(help="A version; the one built before the current without it.")
    ] = None,
    home: HomeOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Go back to an earlier release. Example: ranvier release rollback --reason "EDSS of LYON was wrong" """
    from warehouse.releases import rollback

    chosen = rollback(_home(home), version, reason=reason)
    _say({"published": chosen}, f"{chosen} is the current release again.", as_json)


@app.command("prune")
def release_prune(
    home: HomeOption = None,
    keep: Annotated[int | None, typer.Option(help="How many stay; releases.keep of network.yaml by default.")] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Remove releases that are more than the home keeps. Example: ranvier release prune --keep 10"""
    from warehouse.retention import prune

    gone = prune(_home(home), keep=keep, reason=reason)
    _say({"removed": gone}, f"Removed {', '.join(gone)}." if gone else "There is nothing to remove.", as_json)


@app.command("reissue")
def release_reissue(
    home: HomeOption = None,
    reason: ReasonOption = "",
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Erasure: strip the steward's file of them too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Issue kept releases again without who has withdrawn. Example: ranvier release reissue --reason withdrawal

    Who has withdrawn is what the lake's newest consent rows say. A release that tells of nobody of them stays.
    """
    from datetime import UTC, datetime

    from warehouse.consent import withdrawn_subjects
    from warehouse.reissue import reissue

    place = _home(home)
    gone = withdrawn_subjects(place)
    done = reissue(place, gone, reason=reason, now=datetime.now(UTC), everywhere=everywhere)
    text = "\n".join(f"{one.old} was issued again as {one.new}; the old files are destroyed." for one in done)
    _say(
        [{"old": one.old, "new": one.new} for one in done],
        text or "No kept release tells of who has withdrawn.",
        as_json,
    )


def _say(facts: Any, text: str, as_json: bool) -> None:
    if as_json:
        _print_json(facts)
    else:
        out.print(text, soft_wrap=True, highlight=False)
