"""A small tokenizer for SQL text: first words, parameters, and where statements of a script may end.

It knows SQLite's quoting and comments and nothing of its grammar. What a statement does is never decided here: SQLite's
own parser and authorizer say that (see `pando.store.statements`). Not here: SQL validity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
      (?P<space>   [ \t\n\f\r\ufeff]+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<string>  '(?:[^']|'')*(?:'|\Z) )
    | (?P<name>    "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z) )
    | (?P<param>   \?[0-9]* | [:@\#][A-Za-z0-9_$\u0080-\U0010ffff]+
                 | \$[A-Za-z0-9_$\u0080-\U0010ffff]+(?:::[A-Za-z0-9_$\u0080-\U0010ffff]*)*(?:\([^\s)]*\))? )
    | (?P<word>    [A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]* )
    | (?P<number>  [0-9][A-Za-z0-9_.]* )
    | (?P<semi>    ; )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)

_BLANK = re.compile(r"(?:[ \t\n\f\r\ufeff;]+|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)


def skip_blank(sql: str, start: int = 0) -> int:
    """Give the index of the first character that is no white space, comment or semicolon."""
    found = _BLANK.match(sql, start)
    return found.end() if found else start


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of each token without white space and comments."""
    for found in _TOKEN.finditer(sql):
        kind = found.lastgroup
        if kind is not None and kind != "space":
            yield kind, found.group()


def words(sql: str, count: int) -> tuple[str, ...]:
    """Give the first `count` tokens in upper case, leading semicolons left out."""
    result: list[str] = []
    for kind, text in tokens(sql):
        if kind == "semi" and not result:
            continue
        result.append(text.upper())
        if len(result) == count:
            break
    return tuple(result)


def first_keyword(sql: str) -> str:
    """Give the first word in upper case, or "" without one: a guess for texts that cannot be prepared."""
    found = _TOKEN.match(sql, skip_blank(sql))
    return found.group().upper() if found and found.lastgroup == "word" else ""


def parameter_names(sql: str) -> tuple[str, ...]:
    """Give the parameters as written, with their prefix, in order and with repetitions; `?` for unnamed ones."""
    return tuple(text for kind, text in tokens(sql) if kind == "param")


_TRIGGER_WORDS = 6
"""`EXPLAIN QUERY PLAN CREATE TEMP TRIGGER` is the longest beginning of a trigger."""


def split_script(sql: str) -> Iterator[tuple[int, str]]:
    """Cut a script at the ends of its statements; yields (offset, text) of each that holds more than blanks.

    The rule is sqlite3_complete's: a semicolon ends a statement, but a trigger's body ends with `; END ;`. One pass.
    """
    start = skip_blank(sql)
    recent: list[str] = []  # the first tokens of this statement, then only the last two
    is_trigger = False
    for found in _TOKEN.finditer(sql, start):
        kind = found.lastgroup
        if kind == "space" or found.start() < start:
            continue
        if kind == "semi" and (not is_trigger or recent[-2:] == [";", "END"]):
            yield start, sql[start : found.end()]
            start = skip_blank(sql, found.end())
            recent, is_trigger = [], False
            continue
        recent.append(found.group().upper() if kind in {"word", "semi"} else "")
        if len(recent) <= _TRIGGER_WORDS:
            is_trigger = is_trigger or (recent[0] in {"CREATE", "EXPLAIN"} and recent[-1] == "TRIGGER")
        else:
            del recent[1:-2]
    if start < len(sql):
        yield start, sql[start:]
