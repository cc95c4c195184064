"""`ranvier sql --shell`: questions one after the other, each in a process of its own.

Here: reading lines, completion, the commands of the shell. Not here: asking (`warehouse.gateway`), printing
(`orchestration.answers`). What was typed is kept in memory only and gone with the shell: a history on disk would hold
the values that the audit log leaves out.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from warehouse.errors import QueryRefused, RanvierError
from warehouse.gateway import Answer
from warehouse.select_only import FUNCTIONS

HELP = """\
End a question with ; (it may go over several lines). Tab completes tables, columns and functions.
  tables            the tables of this tier
  describe TABLE    the columns of a table
  explain SELECT ;  how it would be answered
  format FORMAT     table, csv or json
  help, quit\
"""
WORDS = (
    "select from where group by order by having limit with as join left join inner join using on and or not in like"
    " between is null is not null case when then else end distinct union all filter over partition by qualify explain"
    " describe desc asc"
)
COMMANDS = ("tables", "describe", "format", "help", "quit")
FORMATS = ("table", "csv", "json")
WORD = string.ascii_letters + string.digits + "_"


@dataclass
class Catalogue:
    """What can be completed: the tables of the tier and their columns."""

    columns: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, ask: Callable[[str], Answer]) -> Catalogue:
        """Ask the tier itself, so that nothing else is offered."""
        with ask("show tables") as answer:
            tables = [str(row[0]) for row in answer.rows]
        columns = {}
        for table in tables:
            with ask(f'describe "{table}"') as answer:
                columns[table] = [str(row[0]) for row in answer.rows]
        return cls(columns)


class SqlCompleter(Completer):
    """Words of SQL, the tier's tables, the columns of tables that the question names, functions that are answered."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.count("'") % 2:  # inside a value
            return
        word = before[len(before.rstrip(WORD)) :]
        for text, kind in self._offers(before, document.text, word):
            if text.startswith(word.lower()) and text != word.lower():
                yield Completion(text, start_position=-len(word), display_meta=kind)

    def _offers(self, before: str, text: str, word: str) -> Iterator[tuple[str, str]]:
        columns = self._catalogue.columns
        ahead = before[: len(before) - len(word)]
        if re.search(r"\b(from|join|describe)\s+$", ahead, re.IGNORECASE):
            yield from ((table, "table") for table in sorted(columns))
            return
        named = [table for table in columns if re.search(rf"\b{re.escape(table)}\b", text, re.IGNORECASE)]
        if qualified := re.search(r"(\w+)\.$", ahead):
            own = _aliased(text, qualified.group(1).lower(), columns)
            yield from ((column, own or "column") for column in sorted(columns.get(own or "", [])))
            return
        if not word:
            return
        if not ahead.strip():
            yield from ((command, "command") for command in COMMANDS)
        held: dict[str, str] = {}
        for table in named or columns:
            for column in columns[table]:
                held.setdefault(column, table)
        yield from sorted(held.items())
        yield from ((table, "table") for table in sorted(columns))
        yield from ((name, "function") for name in sorted(FUNCTIONS) if name.isidentifier())
        yield from ((name, "") for name in sorted(set(WORDS.split())))


def _aliased(text: str, name: str, columns: dict[str, list[str]]) -> str | None:
    """The table that `name` stands for in a question."""
    if name in columns:
        return name
    before = re.findall(rf"\b(\w+)\s+(?:as\s+)?{re.escape(name)}\b", text, re.IGNORECASE)
    return next((word.lower() for word in before if word.lower() in columns), None)


class Shell:
    """The loop: one question, one answer, until `quit` or the end of the input."""

    def __init__(
        self,
        ask: Callable[[str], Answer],
        show: Callable[[Answer, str], None],
        say: Callable[[str], None],
        *,
        prompt: str,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._ask, self._show, self._say = ask, show, say
        self._format = "table"
        self._session: PromptSession[str] = PromptSession(
            message=f"{prompt}> ",
            multiline=True,
            key_bindings=_bindings(),
            completer=SqlCompleter(Catalogue.read(ask)),
            history=InMemoryHistory(),
            prompt_continuation=lambda width, line, wrapped: " " * max(0, width - 3) + "-> ",
            complete_while_typing=False,
            input=input,
            output=output,
        )

    def run(self) -> None:
        """Until `quit`, Ctrl-D, or the end of the input; Ctrl-C forgets the line."""
        while True:
            try:
                text = self._session.prompt().strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if not self.answer(text):
                return

    def answer(self, text: str) -> bool:
        """Answer one line; False when it ends the shell."""
        text = text.strip().rstrip(";").strip()
        word, _, rest = text.partition(" ")
        match word.lower():
            case "":
                return True
            case "quit" | "exit" | "\\q":
                return False
            case "help" | "\\?" | "\\h":
                self._say(HELP)
            case "format":
                self._choose(rest.strip())
            case "tables" | "\\dt":
                self._run("show tables")
            case "\\d":
                self._run(f"describe {rest}" if rest else "show tables")
            case _:
                self._run(text)
        return True

    def _choose(self, format: str) -> None:
        if format in FORMATS:
            self._format = format
        else:
            self._say(
                f"In the shell there are the formats {', '.join(FORMATS)}; files are made with: ranvier sql --format"
            )

    def _run(self, sql: str) -> None:
        try:
            self._show(self._ask(sql), self._format)
        except QueryRefused as refused:
            self._say(str(refused))
        except KeyboardInterrupt:
            self._say("Stopped.")
        except RanvierError as error:
            self._say(str(error))


def _bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        text = event.current_buffer.text.strip()
        first = text.partition(" ")[0].lower()
        is_command = first in (*COMMANDS, "exit") or first.startswith("\\")
        if not text or text.endswith(";") or (is_command and "\n" not in text):
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    return keys
