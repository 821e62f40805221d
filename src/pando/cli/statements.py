"""Cut SQL text into statements, as the shell reads it line by line or a whole file.

A semicolon ends a statement unless it stands in a string, a quoted name, a comment or a trigger's body. Pure. SQLite's
own parser has the last word: what is cut wrongly is refused by the server, never run differently.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""'(?:[^']|'')*(?:'|\Z)      # string
    | "(?:[^"]|"")*(?:"|\Z)        # quoted name
    | `(?:[^`]|``)*(?:`|\Z)
    | \[[^\]]*(?:\]|\Z)
    | --[^\n]*                     # comment to the end of the line
    | /\*.*?(?:\*/|\Z)             # comment
    | ;
    | [^'"`\[;/-]+ | [/-]
    """,
    re.VERBOSE | re.DOTALL,
)
_DOT_LINE = re.compile(r"^\.[^\n]*", re.MULTILINE)
_BLANK = re.compile(r"(?:[\s;]++|--[^\n]*+|/\*.*?(?:\*/|\Z))*+", re.DOTALL)


def is_blank(text: str) -> bool:
    """Tell whether there is nothing to run: space, comments and semicolons only."""
    return _BLANK.fullmatch(text) is not None


def split_statements(text: str) -> tuple[list[str], str]:
    """Cut off all statements that are complete; gives them, and the rest that waits for more text."""
    statements: list[str] = []
    start = 0
    for end in _candidates(text):
        candidate = text[start:end]
        if is_blank(candidate):
            start = end
        elif sqlite3.complete_statement(candidate):
            statements.append(candidate.strip())
            start = end
    rest = text[start:]
    return statements, "" if is_blank(rest) and not _open_comment(rest) else rest


def split_commands(text: str) -> Iterator[str]:
    """Cut a script at its dot commands, which stand in lines of their own where no statement waits for its end.

    Gives each dot command, and the SQL between them in one piece.
    """
    start = scanned = 0
    for found in _DOT_LINE.finditer(text):
        rest = split_statements(text[scanned : found.start()])[1]
        scanned = found.start() - len(rest)
        if rest:
            continue  # the line belongs to a string or a comment
        if not is_blank(text[start : found.start()]):
            yield text[start : found.start()]
        yield found.group().strip()
        start = scanned = found.end()
    if not is_blank(text[start:]):
        yield text[start:]


def _candidates(text: str) -> Iterator[int]:
    for token in _TOKEN.finditer(text):
        if token.group() == ";":
            yield token.end()


def _open_comment(text: str) -> bool:
    last = None
    for token in _TOKEN.finditer(text):
        last = token.group()
    return last is not None and last.startswith("/*") and (len(last) < 4 or not last.endswith("*/"))
