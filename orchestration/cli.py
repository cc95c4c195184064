"""The `ranvier` command line.

Here: arguments, what is printed, exit codes. Not here: any work (`orchestration.steps` and the rooms do it). Heavy
imports stand inside the commands, so that `--help` and `ranvier sql` start at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestration.commands import (
    HomeOption,
    audit,
    export,
    lineage,
    mirror,
    out,
    policy,
    project,
    query,
    release,
    save_network,
    serve,
    user,
)
from warehouse.errors import HomeError, RanvierError
from warehouse.home import Home, Network, Site, find_home

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The data warehouse of a network of MS centres.")
site_app = typer.Typer(no_args_is_help=True, help="The sites of the network.")
app.add_typer(site_app, name="site")
app.add_typer(release.app, name="release")
app.add_typer(policy.app, name="policy")
app.add_typer(project.app, name="project")
app.add_typer(query.app)
app.add_typer(export.app, name="export")
app.add_typer(lineage.app)
app.add_typer(user.app, name="user")
app.add_typer(serve.app)
app.add_typer(audit.app, name="audit")
app.add_typer(mirror.app, name="mirror")


def make_home(home: Home, name: str) -> None:
    """Folders, `network.yaml` and the zero-row parts of a new home."""
    from warehouse.lake import ensure_schema_parts

    if home.network_file.exists():
        raise HomeError(f"{home.root} is a home already; add sites with: ranvier site add CODE")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    save_network(home, Network(name=name))
    ensure_schema_parts(home)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The new home.")],
    name: Annotated[str, typer.Option(help="Name of the network.")] = "MS network",
) -> None:
    """Make a new home. Example: ranvier init /srv/ranvier"""
    home = Home(folder.resolve())
    make_home(home, name)
    out.print(f"Made the home {home.root}. Next: ranvier site add CODE --home {home.root}")


@site_app.command("add")
def site_add(
    code: Annotated[str, typer.Argument(help="Capital letters and digits, such as MILANO1.")],
    home: HomeOption = None,
    name: Annotated[str, typer.Option(help="Name of the centre.")] = "",
    profile: Annotated[str, typer.Option(help="Source profile that maps the site's columns.")] = "own_names",
    contact: Annotated[str | None, typer.Option(help="Mail address for the site's reports.")] = None,
) -> None:
    """Add a site. Example: ranvier site add MILANO1 --contact mri@hospital.example"""
    from pydantic import ValidationError

    place = find_home(home)
    network = place.network()
    if any(site.code == code for site in network.sites):
        raise HomeError(f"The network has a site {code} already")
    try:
        site = Site(code=code, name=name, profile=profile, contact=contact)
    except ValidationError as error:
        raise HomeError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    network.sites.append(site)
    save_network(place, network)
    (place.landing / code).mkdir(parents=True, exist_ok=True)
    out.print(f"Added {code}. It delivers into {place.landing / code}/<delivery>/; then: ranvier run")


@site_app.command("redcap")
def site_redcap(
    dictionary: Annotated[Path, typer.Argument(help="The project's data dictionary, as REDCap exports it.")],
    export: Annotated[Path, typer.Argument(help="A record export of the project: CSV, raw values.")],
    name: Annotated[str, typer.Option(help="Name of the profile.")] = "redcap",
    out_folder: Annotated[Path, typer.Option("--out", help="Where to write the drafts.")] = Path(),
) -> None:
    """Draft a REDCap project's source profile. Example: ranvier site redcap dictionary.csv data.csv --out profiles"""
    from ingestion.registry import redcap
    from warehouse.standards.rows import write_new_text

    drafted = redcap.draft(redcap.read_data_dictionary(dictionary), redcap.read_export(export), name, export.stem)
    placed = sum(proposal.variable is not None for proposal in drafted.proposals)
    texts = {f"{name}.yaml": drafted.profile_yaml(), f"{name}_variables.yaml": drafted.variables_yaml()}
    for file, text in texts.items():
        write_new_text(out_folder / file, text)
    out.print(f"{placed} of {len(drafted.proposals)} columns are proposed for a variable, the others are marked.")
    out.print(f"Wrote {out_folder / f'{name}.yaml'}: check it. {name}_variables.yaml drafts what the dictionary lacks.")


@site_app.command("profile")
def site_profile(
    files: Annotated[list[Path], typer.Argument(help="Tables as the site sends them.")],
    name: Annotated[str, typer.Option(help="Name of the profile.")] = "draft",
    out_folder: Annotated[Path, typer.Option("--out", help="Where to write the draft.")] = Path(),
) -> None:
    """Draft a source profile for unknown files. Example: ranvier site profile bern.xlsx --name bern --out profiles"""
    from ingestion.registry.draft import draft_profile
    from warehouse.standards.rows import write_new_text

    drafted = draft_profile(files, name)
    write_new_text(out_folder / f"{name}.yaml", drafted.as_yaml())
    table = Table("column", "variable", "sure", "samples, masked", "look at")
    for column in drafted.columns:
        known = f"{column.entity}.{column.variable}" if column.variable else "?"
        sure = f"{column.confidence:.0%}" if column.variable else ""
        table.add_row(column.column, known, sure, ", ".join(column.samples), "; ".join(column.notes))
    out.print(table)
    for lacking in drafted.lacking:
        out.print(f"{lacking} is required, and no column was found for it.")
    out.print(
        f"Wrote {out_folder / f'{name}.yaml'}: check every line, then: ranvier check FOLDER --profile {name}.yaml"
    )


@app.command()
def run(
    home: HomeOption = None,
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given again.")] = None,
    no_release: Annotated[bool, typer.Option("--no-release", help="Stop before building a release.")] = False,
) -> None:
    """Work through what arrived and publish a release. Example: ranvier run --site MILANO1"""
    from orchestration.compute import compute
    from orchestration.network_run import run_network

    place = find_home(home)
    with compute(place, place.network()) as mapper:
        outcome = run_network(place, only=site, release=not no_release, mapper=mapper, console=Console(stderr=True))
    out.print(outcome.table())
    if not outcome.is_ok:
        raise RanvierError(outcome.problem())


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="What you want to send.")],
    profile: Annotated[str, typer.Option(help="Source profile of your columns: a name, or a YAML file.")] = "own_names",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a folder before sending it. 0 clean, 1 findings, 2 unusable. Example: ranvier check export/2026-11"""
    from orchestration.check import check_folder
    from orchestration.progress import bars

    with bars() as progress:
        # A home's profile lies inside the home; a site's own lies where the site says.
        named = str(Path(profile).resolve()) if Path(profile).is_file() else profile
        found = check_folder(folder, profile=named, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(found.as_json(), ensure_ascii=False, indent=1) + "\n")
    else:
        out.print(
            f"{found.files_count} files, {found.files_refused} refused; {found.rows_count} registry rows read, "
            f"{found.rows_refused} refused; {len(found.series)} imaging series"
        )
        for series in found.series:
            out.print(f"{series['where']}: {series['verdict'] or series['status']} {'; '.join(series['reasons'])}")
        for problem in found.problems:
            out.print(f"{problem.severity} {problem.rule} - {problem.where}: {problem.message} {problem.action}")
    if found.problems:
        raise typer.Exit(1)


@app.command()
def measure(
    path: Annotated[Path, typer.Argument(help="A DICOM folder, an archive, or a NIfTI file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the image quality of a series. Example: ranvier measure scans/t1w --json"""
    from orchestration.check import measure_path
    from orchestration.progress import bars

    with bars() as progress:
        found = measure_path(path, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        return
    for series in found:
        table = Table("measure", "value", "unit", "better", "why not", title=series["series"])
        for m in series["measures"]:
            value = "" if m["value"] is None else f"{m['value']:.4g}"
            table.add_row(m["measure"], value, m["unit"] or "", m["direction"], m["reason"] or "")
        out.print(table)


@app.command()
def ui(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False,
) -> None:
    """Open the Dagster UI and its daemon on the home. Example: ranvier ui --port 3000"""
    from orchestration.ui import serve

    serve(find_home(home), port=port, read_only=read_only, say=out.print)


@app.command()
def report(
    site: Annotated[str, typer.Argument(help="Code of the site.")],
    home: HomeOption = None,
) -> None:
    """Render a site's report. Example: ranvier report MILANO1"""
    from qa.reports import render_report
    from warehouse.releases import current_version

    place = find_home(home)
    network = place.network()
    network.site(site)
    version = current_version(place)
    if version is None:
        raise RanvierError("There is no release yet; make one with: ranvier run")
    out.print(str(render_report(place, network, site, version)), soft_wrap=True)


@app.command()
def quarantine(
    home: HomeOption = None,
    site: Annotated[str | None, typer.Option(help="Only this site.")] = None,
) -> None:
    """List what was refused, and why. Example: ranvier quarantine --site MILANO1"""
    from ingestion.quarantine import list_quarantine

    frame = list_quarantine(find_home(home), site)
    if frame.is_empty():
        out.print("Nothing was refused.")
    for (code, delivery), refused in frame.group_by("site_code", "delivery_key", maintain_order=True):
        out.print(f"{code}, delivery {delivery}: {refused.height} refused", style="bold")
        for row in refused.iter_rows(named=True):
            out.print(f"  {row['what']} {row['where_found']}: {row['reason']}", markup=False, highlight=False)


@app.command()
def demo(
    home: Annotated[Path, typer.Option(help="Where the demo's home is made.")] = Path("demo-home"),
    sites: Annotated[int, typer.Option(help="Sites of the network.")] = 4,
    subjects: Annotated[int, typer.Option(help="Patients per site.")] = 30,
    scans: Annotated[int, typer.Option(help="Imaging series per site; 12 hold every kind of fault twice.")] = 2,
    seed: Annotated[int, typer.Option(help="Same seed, same network.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace a demo home that is there.")] = False,
) -> None:
    """Simulate a network with planted faults and run everything. Example: ranvier demo --home demo-home"""
    from orchestration.demo import run_demo

    run_demo(Home(home.resolve()), sites=sites, subjects=subjects, scans=scans, seed=seed, fresh=fresh, console=out)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: errors are one sentence on standard error and exit code 2."""
    # Partitioned asset checks are a preview of Dagster, pinned to the exact patch in pyproject.toml.
    warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
    try:
        return app(args=arguments)
    except RanvierError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(2)
