"""What the audit log keeps of a statement: names of tables and columns, the words of SQL, and nothing else.

Here: replacing everything else by `?`. Not here: the log (`warehouse.audit`).

A positive list, and not a parser: a value may stand in any quotes, in a comment, or in none at all by mistake, and a
statement that does not parse is logged too. Whatever is not known to be harmless is replaced, so a misread quote can
hide a name but cannot show a value.
"""

from __future__ import annotations

import re

from warehouse.select_only import FUNCTIONS

WORDS = frozenset(
    """
    all and anti any as asc asof between by case cast collate cross cube current desc describe distinct else
    end escape except exclude exists explain false filter first following for from full group grouping
    having ilike in inner intersect interval is join last lateral left like limit natural not null nulls
    offset on or order outer over partition pivot positional preceding qualify range recursive replace right
    rollup row rows sample select semi sets show similar some summarize table tables tablesample then to
    true try_cast unbounded union unpivot using values when where window with within

    alter analyze attach call checkpoint copy create deallocate delete detach drop execute export import
    insert install into load macro pragma prepare reset secret set temp temporary truncate update use vacuum
    view

    bigint boolean date decimal double float int integer smallint text time timestamp tinyint varchar
    """.split()
)
"""Words of questions, of what is refused (the log shows what was tried), and of types. None is a name of a person or
place in common use; one that is missing here is a `?` in the log."""

TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<dollar>\$(?P<tag>[^\W\d]\w*|)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[^\W\d]\w*)(?P<call>\s*\()?
    | (?P<number>\.?\d[\w.]*)
    | (?P<foreign>[^\x00-\x7f]+|[\x00-\x08\x0e-\x1f\x7f])
    """,
    re.VERBOSE | re.DOTALL,
)


def without_literals(sql: str, known: frozenset[str] = frozenset()) -> str:
    """The statement with everything but known names and the words of SQL replaced by `?`.

    Parameters
    ----------
    known
        Table and column names, in lower case. Any other name, such as an alias, may be a value that somebody forgot to
        quote or put in the wrong quotes, so it is replaced too.
    """

    def replaced(match: re.Match[str]) -> str:
        text = match.group(0)
        if match.group("comment"):
            return " "
        if match.group("quoted"):
            return text if text[1:-1].lower() in known else "?"
        if match.group("word"):
            word, call = match.group("word"), match.group("call") or ""
            is_kept = word.lower() in known or word.lower() in WORDS or (call and word.lower() in FUNCTIONS)
            return (word if is_kept else "?") + call
        return "?"

    return " ".join(TOKEN.sub(replaced, sql).split())
