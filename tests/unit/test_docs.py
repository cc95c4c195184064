"""The README and the guides tell the truth: commands parse, queries run on the tier they name, links lead somewhere.

Here: what a reader copies from the pages. Not here: the generated catalogues, which have their own tests.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer
import yaml

from ingestion.profile import Profile
from orchestration.cli import app
from qa.imaging.verdict import load_limits
from warehouse import select_only
from warehouse.dictionary import load_dictionary
from warehouse.home import Network
from warehouse.policy import disclosure_rule, load_policy

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *GUIDES, *sorted((ROOT / "docs" / "catalogue").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
ROOMS = ("warehouse/", "ingestion/", "qa/", "orchestration/", "dbt_project/", "tests/", "docs/")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path, language: str) -> list[str]:
    """Contents of a page's code blocks of one language."""
    return [match.group(3) for match in FENCE.finditer(text_of(page)) if match.group(2) == language]


def prose(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def split_commands(line: str) -> list[list[str]]:
    """The words of each command of a shell line, split where the shell would."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set("();<>|&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def shown_commands() -> list[tuple[str, tuple[str, ...]]]:
    """(page, arguments) of every `ranvier` command in a shell block."""
    found = []
    for page in PAGES:
        for block in fences(page, "sh"):
            for line in block.splitlines():
                for words in split_commands(line):
                    if "ranvier" in words:
                        found.append((page.name, tuple(words[words.index("ranvier") + 1 :])))
    return found


def mentioned_commands() -> list[tuple[str, tuple[str, ...]]]:
    """(page, arguments) of every `ranvier ...` in running text; arguments that are required may be left out there."""
    return [
        (page.name, tuple(shlex.split(" ".join(code.split()))[1:]))
        for page in PAGES
        for code in re.findall(r"`([^`]+)`", prose(page))
        if code.split()[0] == "ranvier"
    ]


def walk(arguments: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The command that arguments name, and what is left for it."""
    command: Any = typer.main.get_command(app)
    left = list(arguments)
    while left and hasattr(command, "commands") and not left[0].startswith("-"):
        assert left[0] in command.commands, f"there is no command {left[0]!r}"
        command = command.commands[left.pop(0)]
    return command, left


def options_of(command: Any) -> set[str]:
    return {"--help"} | {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(("page", "arguments"), shown_commands())
def test_a_shown_command_can_be_typed(page: str, arguments: tuple[str, ...]) -> None:
    command, left = walk(arguments)
    if "--help" in left:
        return
    assert not hasattr(command, "commands"), f"{page}: {' '.join(arguments)} lacks its subcommand"
    command.make_context("ranvier", left)


@pytest.mark.parametrize(("page", "arguments"), mentioned_commands())
def test_a_mentioned_command_and_its_options_exist(page: str, arguments: tuple[str, ...]) -> None:
    command, left = walk(arguments)
    unknown = {word for word in left if word.startswith("--")} - options_of(command)
    assert not unknown, f"{page}: {' '.join(arguments)}"


def test_every_command_is_shown_somewhere() -> None:
    """A command that no page shows is one that nobody finds."""
    shown = {walk(arguments)[0].callback for _, arguments in shown_commands()}
    commands = [*app.registered_commands]
    commands += [command for group in app.registered_groups for command in group.typer_instance.registered_commands]  # type: ignore[union-attr]
    names = {command.callback.__name__ for command in commands if command.callback}
    assert names <= {callback.__name__ for callback in shown if callback}


def queries() -> list[tuple[str, str, str]]:
    """(page, tier, statement) of every query that a page shows."""
    found = []
    for page in PAGES:
        for block in fences(page, "sql"):
            first = re.match(r"-- tier: (\w+)\n", block)
            assert first, f"{page.name}: a query does not say its tier"
            found.append((page.name, first.group(1), block))
    for name, arguments in shown_commands():
        if arguments[:1] == ("sql",) and "--help" not in arguments:
            command, left = walk(arguments)
            given = command.make_context("ranvier", left).params
            if given["query"]:
                found.append((name, "site" if given["site"] else given["tier"], given["query"]))
    return found


@pytest.fixture(scope="module")
def tiers() -> dict[str, duckdb.DuckDBPyConnection]:
    """An empty database per tier, with the tables and columns that the policy declares."""
    made = {}
    for tier, tables in load_policy().tiers.items():
        made[tier] = duckdb.connect()
        for table in tables.values():
            columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
            made[tier].execute(f'create table "{table.name}" ({columns})')
    return made


@pytest.mark.parametrize(("page", "tier", "statement"), queries())
def test_a_shown_query_runs_on_its_tier(
    page: str, tier: str, statement: str, tiers: dict[str, duckdb.DuckDBPyConnection]
) -> None:
    (row,) = tiers[tier].execute("select json_serialize_sql(?::varchar)", [statement]).fetchall()
    select_only.check(json.loads(row[0]), set(load_policy().tiers[tier]), set())
    assert tiers[tier].execute(statement).description, page


def test_a_query_on_a_column_of_another_tier_would_be_noticed(tiers: dict[str, duckdb.DuckDBPyConnection]) -> None:
    with pytest.raises(duckdb.BinderException):
        tiers["registered"].execute("select visit_date from fct_visit")


def test_the_tables_of_each_tier_are_as_the_analysts_guide_says() -> None:
    tiers = load_policy().tiers
    section = text_of(ROOT / "docs" / "analyst.md").split("## Which table")[1].split("## ")[0]
    told: dict[str, set[str]] = {}
    for first, last in re.findall(r"^\| (`.+?) \|.*\| ([^|]+) \|$", section, re.MULTILINE):
        for table in re.findall(r"`(\w+)`", first):
            told[table] = set(tiers) if last == "all" else set(last.split(", "))
    held = {table: {tier for tier in tiers if table in tiers[tier]} for tables in tiers.values() for table in tables}
    assert told == held


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "site.md"], ids=lambda page: page.name)
def test_the_columns_to_send_are_those_of_the_dictionary(page: Path) -> None:
    files = {"patients.csv": "patient", "visits.csv": "visit", "relapses.csv": "relapse"}
    files |= {"treatments.csv": "treatment", "consent.csv": "consent", "mri.csv": "mri_session"}
    told = {}
    for name, must, may in re.findall(
        r"^ *\| `?([\w.]+)`? \| (`patient_id`.*?) \| (.*?) ?\|$", text_of(page), re.MULTILINE
    ):
        told[files.get(name, name)] = (set(re.findall(r"`(\w+)`", must)), set(re.findall(r"`(\w+)`", may)))
    entities = load_dictionary().entities
    for name, (must_names, may_names) in told.items():
        required = {variable.name for variable in entities[name].variables if variable.required}
        assert must_names == {"patient_id"} | required
        assert may_names < {variable.name for variable in entities[name].variables} - must_names | {"nothing more"}
    assert told.keys() == (entities.keys() if page.name == "site.md" else set(files.values()))


def test_the_network_file_of_the_guide_is_one() -> None:
    (block,) = fences(ROOT / "docs" / "data_manager.md", "yaml")
    network = Network.model_validate(yaml.safe_load(block))
    assert disclosure_rule(load_policy(), network) == (10, 10)
    assert load_limits(network.thresholds).sha256 != load_limits().sha256


def test_the_profile_of_the_guide_is_one() -> None:
    (block,) = fences(ROOT / "docs" / "how_it_works.md", "yaml")
    profile = Profile.model_validate(yaml.safe_load(block))
    assert {"patient", "visit", "consent"} == profile.entities.keys()


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(linked)), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES], ids=lambda page: page.name)
def test_files_named_in_the_text_exist(page: Path) -> None:
    for name in re.findall(r"`([\w./*-]+)`", prose(page)):
        if name.startswith(ROOMS) and "<" not in name:
            assert list(ROOT.glob(name.rstrip("/"))), f"{page.name}: {name}"
