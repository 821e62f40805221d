"""The words of a SQL text, each with its place: enough to read index statements and the select list of views.

The lexical rules are SQLite's, but for comments without an end, which are refused: what is put behind such a text would
be part of the comment. Comments and blanks are left out. What cannot be a token is a `BadSql`. Pure.
Not here: grammar (`pando.records.collections.indexes`, `.select_list`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

SQL_CHARS_MAX: Final = 64 * 1024
"""Longest text that is taken apart: far more than a view or an index needs."""


class Kind(Enum):
    """What a token is."""

    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    BLOB = "blob"
    VARIABLE = "variable"
    PUNCTUATION = "punctuation"


class BadSql(Exception):
    """The text is no SQL that we read."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its text as written and where it begins and ends."""

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        """Whether it can name a table or column."""
        return self.kind in (Kind.WORD, Kind.QUOTED)

    @property
    def name(self) -> str:
        """The name that it stands for, without quotes."""
        if self.kind is Kind.WORD or not self.text:
            return self.text
        inner, close = self.text[1:-1], self.text[-1]
        return inner if close == "]" else inner.replace(close * 2, close)

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these keywords (upper case), unquoted."""
        return self.kind is Kind.WORD and self.text.upper() in words

    def is_mark(self, mark: str) -> bool:
        """Whether it is this punctuation."""
        return self.kind is Kind.PUNCTUATION and self.text == mark


_TOKEN: Final = re.compile(
    r"""
      (?P<skip>[ \t\n\f\r]+ | --[^\n]* | /\*.*?\*/)
    | (?P<blob>[xX]'[0-9A-Fa-f]*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
    | (?P<number>0[xX][0-9A-Fa-f_]+ | (?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)
    | (?P<variable>\?\d* | [:@\#$][A-Za-z_0-9$\u0080-\U0010ffff]+)
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z_0-9$\u0080-\U0010ffff]*)
    | (?P<punctuation>->> | \|\| | -> | << | >> | <> | <= | >= | == | != | /(?!\*) | [-+*%&|~<>=(),.;])
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS: Final = {kind.value: kind for kind in Kind}


def tokens(text: str) -> list[Token]:
    """Take a text apart; raise BadSql if it has anything else, or is too long."""
    if len(text) > SQL_CHARS_MAX:
        raise BadSql(f"SQL of {len(text)} characters; the limit is {SQL_CHARS_MAX}")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadSql(f"unexpected character at {at}: {text[at]!r}")
        if (group := match.lastgroup) != "skip":
            found.append(Token(_KINDS[group or ""], match.group(), at, match.end()))
        at = match.end()
    return found


def quote(name: str) -> str:
    """Write a name so that SQLite takes it for nothing else."""
    return f"`{name.replace('`', '``')}`"


def spliced(text: str, changes: dict[Token, str]) -> str:
    """Put other texts in the places of some tokens."""
    parts, at = [], 0
    for token in sorted(changes, key=lambda each: each.start):
        parts += [text[at : token.start], changes[token]]
        at = token.end
    return "".join([*parts, text[at:]])


def skip_parentheses(found: list[Token], at: int) -> int:
    """Give the place behind the parenthesis that closes the one at `at`; raise BadSql if there is none."""
    depth = 0
    for place in range(at, len(found)):
        if found[place].is_mark("("):
            depth += 1
        elif found[place].is_mark(")"):
            depth -= 1
            if depth == 0:
                return place + 1
    raise BadSql("a parenthesis is not closed")
