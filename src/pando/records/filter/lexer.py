r"""From the text of a filter to its tokens, with texts and numbers set apart.

Texts stand in single or double quotes. A backslash before a quote, a backslash, `n`, `r` or `t` makes one character of
both, as the official client writes them; before anything else it stands for itself. `//` starts a comment. Pure. Not
here: grammar (`parser`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pando.records.filter.syntax import FilterError, Literal


class Kind(StrEnum):
    """What a token is."""

    NAME = "name"
    NUMBER = "number"
    TEXT = "text"
    OPERATOR = "operator"
    JOIN = "join"
    OPEN = "open"
    CLOSE = "close"
    COMMA = "comma"


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `text` of a literal is what matters of it for SQL: `''` empty text, `'` text, `0` number."""

    kind: Kind
    text: str
    literal: int = -1


@dataclass(frozen=True, slots=True)
class Lexed:
    """A filter's tokens and its literals. Filters with one `shape` differ in their literals only."""

    tokens: tuple[Token, ...]
    literals: tuple[Literal, ...]
    shape: str


_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+|//[^\n]*)
    | (?P<name>[A-Za-z_@\#][A-Za-z0-9_.:]*)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<operator>\??(?:!=|>=|<=|!~|=|>|<|~))
    | (?P<join>&&|\|\|)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<comma>,)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"""\\([\\'"nrt])""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def lex(text: str) -> Lexed:
    """Read all tokens; raises FilterError."""
    tokens: list[Token] = []
    literals: list[Literal] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise FilterError(f"cannot read the filter at {text[place : place + 20]!r}")
        place = found.end()
        if found.lastgroup != "space":
            tokens.append(_token(Kind(found.lastgroup or ""), found.group(), literals))
    return Lexed(tuple(tokens), tuple(literals), " ".join(each.text for each in tokens))


def _token(kind: Kind, text: str, literals: list[Literal]) -> Token:
    if kind is Kind.TEXT:
        value = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text[1:-1])
        if not _is_unicode(value):
            raise FilterError("a text is not valid Unicode")
        literals.append(value)
        return Token(kind, "'" if value else "''", len(literals) - 1)
    if kind is Kind.NUMBER:
        literals.append(float(text))
        return Token(kind, "0", len(literals) - 1)
    return Token(kind, text)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)
