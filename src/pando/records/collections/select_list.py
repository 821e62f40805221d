"""What each column of a SELECT is, as far as that shows: a plain column of a table, a call, a CAST, or something else.

Reads no more SQL than that takes, and says `OTHER` when in doubt. Of a compound SELECT each part is read by itself.
Pure. Not here: the names of the columns, which SQLite gives, and the fields that they become
(`pando.records.collections.views`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pando.records.collections.indexes import split
from pando.records.collections.sql_tokens import BadSql, Kind, Token, skip_parentheses, tokens


class Shape(Enum):
    """What an expression is."""

    COLUMN = "column"
    CALL = "call"
    CAST = "cast"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Expression:
    """One column of the result. `name` is a column, a function or a type in lower case, by shape."""

    shape: Shape
    name: str = ""
    table: str = ""
    """What stands before a column, a table or its alias, in lower case; empty if nothing does."""


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT: its columns, and the tables that it reads by the names that they have in it (lower case)."""

    columns: tuple[Expression, ...]
    tables: Mapping[str, str]
    """Alias to table; "" for what is no table, such as a subquery."""


OTHER: Final = Expression(Shape.OTHER)
_COMPOUND: Final = ("UNION", "EXCEPT", "INTERSECT")
_AFTER_FROM: Final = ("WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT")
_JOINS: Final = ("NATURAL", "LEFT", "RIGHT", "FULL", "OUTER", "INNER", "CROSS", "JOIN")
_BEHIND_TABLE: Final = (*_JOINS, "ON", "USING", "INDEXED", "NOT")
_POSTFIX: Final = ("ISNULL", "NOTNULL", "END")


def read_query(query: str) -> list[Select]:
    """Read a query that consists of one SELECT or several in a compound; raise BadSql for all else."""
    found = tokens(query)
    while found and found[-1].is_mark(";"):
        found.pop()
    _check_whole(found)
    hidden, start = _common_tables(found)
    return [_select(part, hidden) for part in _parts(found[start:])]


def _check_whole(found: Sequence[Token]) -> None:
    depth = 0
    for token in found:
        depth += token.is_mark("(") - token.is_mark(")")
        if depth < 0:
            raise BadSql("a parenthesis is closed that was not opened")
        if token.is_mark(";"):
            raise BadSql("there is more than one statement")
        if token.kind is Kind.VARIABLE:
            raise BadSql(f"{token.text} has no value here")
    if depth:
        raise BadSql("a parenthesis is not closed")
    if not found or not found[0].is_word("SELECT", "WITH"):
        raise BadSql("it must be a SELECT")


def _common_tables(found: list[Token]) -> tuple[frozenset[str], int]:
    """Give the names that a WITH clause defines (and keywords that look like such) and the place behind it."""
    if not found[0].is_word("WITH"):
        return frozenset(), 0
    top = _top_level(found)
    start = next((place for place in top if found[place].is_word("SELECT")), None)
    if start is None:
        raise BadSql("it must be a SELECT")
    before = [place for place in top if place < start and found[place].is_name]
    return frozenset(found[place].name.lower() for place in before), start


def _top_level(found: Sequence[Token]) -> list[int]:
    """Give the places of tokens that are in no parentheses."""
    places, depth = [], 0
    for place, token in enumerate(found):
        depth -= token.is_mark(")")
        if depth == 0:
            places.append(place)
        depth += token.is_mark("(")
    return places


def _parts(found: list[Token]) -> list[list[Token]]:
    cuts = [place for place in _top_level(found) if found[place].is_word(*_COMPOUND)]
    parts, start = [], 0
    for cut in [*cuts, len(found)]:
        part = found[start:cut]
        parts.append(part[1:] if part and part[0].is_word("ALL") else part)
        start = cut + 1
    return parts


def _select(found: list[Token], hidden: frozenset[str]) -> Select:
    if not found or not found[0].is_word("SELECT"):
        raise BadSql("it must be a SELECT")
    start = 2 if len(found) > 1 and found[1].is_word("DISTINCT", "ALL") else 1
    top = [place for place in _top_level(found) if place >= start]
    end = next((place for place in top if found[place].is_word("FROM", *_AFTER_FROM)), len(found))
    columns = tuple(_expression(each) for each in split(found[start:end]))
    is_from = end < len(found) and found[end].is_word("FROM")
    stop = next((place for place in top if place > end and found[place].is_word(*_AFTER_FROM)), len(found))
    return Select(columns, _tables(found[end + 1 : stop], hidden) if is_from else {})


# -- columns ----------------------------------------------------------------------------------------------------------


def _expression(found: list[Token]) -> Expression:
    if not found:
        raise BadSql("a column is missing")
    if found[-1].is_mark("*") and (len(found) == 1 or found[-2].is_mark(".")):
        raise BadSql("* is not allowed: name the columns")
    body = _without_alias(found)
    while body and body[0].is_mark("(") and skip_parentheses(body, 0) == len(body):
        body = body[1:-1]
    return _column(body) or _call(body) or OTHER


def _without_alias(found: list[Token]) -> list[Token]:
    if len(found) > 2 and found[-2].is_word("AS"):
        return found[:-2]
    if len(found) < 2 or found[-1].is_word(*_POSTFIX):
        return found
    is_alias = found[-1].is_name or found[-1].kind is Kind.STRING
    before = found[-2]
    is_operand = before.is_name or before.is_mark(")") or before.kind in (Kind.NUMBER, Kind.STRING, Kind.BLOB)
    return found[:-1] if is_alias and is_operand else found


def _column(found: list[Token]) -> Expression | None:
    names = found[::2]
    if not all(each.is_name for each in names) or not all(each.is_mark(".") for each in found[1::2]):
        return None
    if not 1 <= len(names) <= 3 or len(found) % 2 == 0:
        return None
    table = names[-2].name.lower() if len(names) > 1 else ""
    return Expression(Shape.COLUMN, names[-1].name.lower(), table)


def _call(found: list[Token]) -> Expression | None:
    """Read `name(...)`, with FILTER and OVER behind it, or `CAST(... AS type)`."""
    if len(found) < 3 or not found[0].is_name or not found[1].is_mark("("):
        return None
    end = skip_parentheses(found, 1)
    name = found[0].name.lower()
    if name == "cast":
        return _cast(found[2 : end - 1]) if end == len(found) else None
    while end + 1 < len(found) and found[end].is_word("FILTER", "OVER"):
        behind = found[end + 1]
        if behind.is_mark("("):
            end = skip_parentheses(found, end + 1)
        elif behind.is_name:
            end += 2
        else:
            return None
    return Expression(Shape.CALL, name) if end == len(found) else None


def _cast(found: list[Token]) -> Expression | None:
    place = next((each for each in reversed(_top_level(found)) if found[each].is_word("AS")), None)
    if place is None or place + 1 >= len(found) or not found[place + 1].is_name:
        return None
    return Expression(Shape.CAST, found[place + 1].name.lower())


# -- tables -----------------------------------------------------------------------------------------------------------


def _tables(found: list[Token], hidden: frozenset[str]) -> dict[str, str]:
    """Read what follows FROM."""
    tables: dict[str, str] = {}
    at, expected = 0, True
    while at < len(found):
        if expected:
            alias, table, at = _table(found, at)
            known = "" if table in hidden else table
            tables[alias] = known if tables.get(alias, known) == known else ""
            expected = False
        elif found[at].is_mark("("):
            at = skip_parentheses(found, at)
        else:
            expected = found[at].is_mark(",") or found[at].is_word("JOIN")
            at += 1
    return tables


def _table(found: list[Token], at: int) -> tuple[str, str, int]:
    """Read one table or subquery with its alias: alias, table and the place behind."""
    table = ""
    if found[at].is_mark("("):
        at = skip_parentheses(found, at)
    elif found[at].is_name:
        while at + 2 < len(found) and found[at + 1].is_mark("."):
            at += 2
        table = found[at].name.lower()
        at += 1
        if at < len(found) and found[at].is_mark("("):
            table, at = "", skip_parentheses(found, at)
    else:
        raise BadSql("a table is missing")
    if at < len(found) and found[at].is_word("AS"):
        at += 1
    if at < len(found) and found[at].is_name and not found[at].is_word(*_BEHIND_TABLE):
        return found[at].name.lower(), table, at + 1
    return table, table, at
