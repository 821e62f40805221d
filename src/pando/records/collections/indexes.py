"""CREATE INDEX statements: read, checked for what they name, rewritten for another table or column, found by column.

A collection keeps its indexes as complete statements. They are changed in place, word by word, so that what the user
wrote stays as it is; for the database they are written anew in one form. Pure. Not here: which statements a collection
may have (`pando.records.collections.index_checks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pando.records.collections.sql_tokens import BadSql, Token, quote, skip_parentheses, spliced, tokens

PARSED_MAX: Final = 4096
"""Statements kept read: each check of a collection asks for the indexes of all others."""


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """One column of an index, or an expression as it was written."""

    name: str
    is_expression: bool = False
    collate: str = ""
    sort: str = ""

    def sql(self) -> str:
        """Write it down."""
        parts = [self.name if self.is_expression else quote(self.name)]
        if self.collate:
            parts.append(f"COLLATE {quote(self.collate)}")
        if self.sort:
            parts.append(self.sort)
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Index:
    """What a CREATE INDEX statement says; `where` is empty or the condition as written."""

    name: str
    table: str
    columns: tuple[IndexColumn, ...]
    unique: bool = False
    where: str = ""

    def sql(self) -> str:
        """Write the statement in our one form."""
        unique = "UNIQUE " if self.unique else ""
        columns = ", ".join(each.sql() for each in self.columns)
        where = f" WHERE {self.where}" if self.where else ""
        return f"CREATE {unique}INDEX {quote(self.name)} ON {quote(self.table)} ({columns}){where}"

    @property
    def definition(self) -> tuple[object, ...]:
        """What two indexes of one table share if one of them is needless, whatever their names."""
        columns = tuple((each.name.lower(), each.collate.lower(), each.sort or "ASC") for each in self.columns)
        return columns, self.unique, normal(self.where)


@dataclass(frozen=True, slots=True)
class _Read:
    """A statement that was read, with the places of its words."""

    index: Index
    table: Token
    body: tuple[Token, ...]
    """The tokens of the columns and of the condition."""


@lru_cache(maxsize=PARSED_MAX)
def parse(statement: str) -> Index | None:
    """Read a statement; None if it is not one CREATE INDEX statement."""
    read = _read(statement)
    return read.index if read else None


def retabled(statement: str, table: str) -> str:
    """Point a statement to a table; unchanged if it does so already or cannot be read."""
    read = _read(statement)
    if read is None or read.index.table == table:
        return statement
    return spliced(statement, {read.table: quote(table)})


def recolumned(statement: str, renames: Mapping[str, str]) -> str:
    """Rename columns (by their old name in any case) in the columns and the condition of a statement."""
    read = _read(statement)
    if read is None or not renames:
        return statement
    by_lower = {old.lower(): new for old, new in renames.items()}
    changes = {
        token: quote(by_lower[token.name.lower()])
        for token, after in zip(read.body, [*read.body[1:], None], strict=True)
        if token.is_name and token.name.lower() in by_lower and not (after is not None and after.is_mark("("))
    }
    return spliced(statement, changes)


def unique_on(statements: Iterable[str], column: str) -> Index | None:
    """Find the first unique index that has this column and no other; a condition does not matter."""
    for statement in statements:
        found = parse(statement)
        if found is not None and found.unique and is_on(found, column):
            return found
    return None


def normal(condition: str) -> tuple[str, ...]:
    """Give what two conditions share that differ in blanks, quotes of names and case of words only."""
    return tuple(each.name.lower() if each.is_name else each.text for each in tokens(condition))


def is_on(index: Index, column: str) -> bool:
    """Whether an index has this column and no other."""
    only = index.columns[0]
    return len(index.columns) == 1 and not only.is_expression and only.name.lower() == column.lower()


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(statement: str) -> _Read | None:
    try:
        return _Reader(statement).read()
    except (BadSql, IndexError):
        return None


class _Reader:
    """Reads one statement from left to right; IndexError and BadSql mean that it is none."""

    def __init__(self, statement: str) -> None:
        self._text = statement
        self._tokens = tokens(statement)
        self._at = 0
        while self._tokens and self._tokens[-1].is_mark(";"):
            self._tokens.pop()

    def read(self) -> _Read:
        self._words("CREATE")
        unique = self._maybe("UNIQUE")
        self._words("INDEX")
        if self._maybe("IF"):
            self._words("NOT", "EXISTS")
        name = self._name()
        if self._tokens[self._at].is_mark("."):
            self._at += 1
            name = self._name()
        self._words("ON")
        table = self._name()
        begin, end = self._at, self._columns_end()
        columns = tuple(_column(self._text, each) for each in split(self._tokens[begin + 1 : end - 1]))
        where = self._where(end)
        body = tuple(self._tokens[begin:])
        return _Read(Index(name.name, table.name, columns, unique, where), table, body)

    def _columns_end(self) -> int:
        if not self._tokens[self._at].is_mark("("):
            raise BadSql("columns are missing")
        return skip_parentheses(self._tokens, self._at)

    def _where(self, at: int) -> str:
        if at == len(self._tokens):
            return ""
        if not self._tokens[at].is_word("WHERE") or any(each.is_mark(";") for each in self._tokens[at:]):
            raise BadSql("more than an index")
        return self._text[self._tokens[at + 1].start : self._tokens[-1].end]

    def _words(self, *words: str) -> None:
        for word in words:
            if not self._maybe(word):
                raise BadSql(f"{word} is missing")

    def _maybe(self, word: str) -> bool:
        found = self._tokens[self._at].is_word(word)
        self._at += found
        return found

    def _name(self) -> Token:
        token = self._tokens[self._at]
        if not token.is_name or not token.name:
            raise BadSql("a name is missing")
        self._at += 1
        return token


def split(found: Sequence[Token], mark: str = ",") -> list[list[Token]]:
    """Part tokens at a mark outside of parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0 and token.is_mark(mark):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _column(text: str, found: list[Token]) -> IndexColumn:
    rest, sort, collate = list(found), "", ""
    if len(rest) > 1 and rest[-1].is_word("ASC", "DESC"):
        sort = rest.pop().text.upper()
    if len(rest) > 2 and rest[-2].is_word("COLLATE"):
        collate = rest.pop().name
        rest.pop()
    if not rest or any(each.is_mark(";") for each in rest):
        raise BadSql("a column is missing")
    if len(rest) == 1 and rest[0].is_name:
        return IndexColumn(rest[0].name, False, collate, sort)
    return IndexColumn(text[rest[0].start : rest[-1].end], True, collate, sort)
