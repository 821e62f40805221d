"""From tokens to a tree of conditions.

    filter     = all { "||" all }
    all        = item { "&&" item }
    item       = "(" filter ")" | term operator term
    term       = name | number | text | name "(" [ term { "," term } [ "," ] ] ")"

Pure. Not here: what names and functions mean (`resolver`, `functions`).
"""

from __future__ import annotations

from pando.records.filter.lexer import Kind, Lexed, Token
from pando.records.filter.syntax import (
    ARGUMENTS_MAX,
    CALLS_NESTED_MAX,
    NESTING_MAX,
    AllOf,
    AnyOf,
    Call,
    Comparison,
    Condition,
    FilterError,
    Name,
    Number,
    Operator,
    Term,
    Text,
)


def parse(lexed: Lexed, *, comparisons_max: int) -> Condition:
    """Read a filter that is not blank; raises FilterError."""
    parser = _Parser(lexed.tokens, comparisons_max)
    condition = parser.filter(0)
    parser.end()
    return condition


class _Parser:
    """Reads tokens from left to right; each method reads what its name says."""

    def __init__(self, tokens: tuple[Token, ...], comparisons_max: int) -> None:
        self._tokens = tokens
        self._place = 0
        self._left = comparisons_max

    def filter(self, depth: int) -> Condition:
        if depth > NESTING_MAX:
            raise FilterError(f"more than {NESTING_MAX} parentheses within each other")
        items = [self._all(depth)]
        while self._skip(Kind.JOIN, "||"):
            items.append(self._all(depth))
        return items[0] if len(items) == 1 else AnyOf(tuple(items))

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise FilterError(f"unexpected {self._tokens[self._place].text!r}")

    def _all(self, depth: int) -> Condition:
        items = [self._item(depth)]
        while self._skip(Kind.JOIN, "&&"):
            items.append(self._item(depth))
        return items[0] if len(items) == 1 else AllOf(tuple(items))

    def _item(self, depth: int) -> Condition:
        if self._skip(Kind.OPEN):
            condition = self.filter(depth + 1)
            self._take(Kind.CLOSE)
            return condition
        self._left -= 1
        if self._left < 0:
            raise FilterError("too many comparisons")
        left = self._term(0)
        operator = self._take(Kind.OPERATOR).text
        right = self._term(0)
        return Comparison(left, Operator(operator.removeprefix("?")), right, operator.startswith("?"))

    def _term(self, calls: int) -> Term:
        token = self._next()
        if token.kind is Kind.TEXT:
            return Text(token.literal, token.text == "''")
        if token.kind is Kind.NUMBER:
            return Number(token.literal)
        if token.kind is not Kind.NAME:
            raise FilterError(f"a field or value must stand where {token.text!r} is")
        if self._skip(Kind.OPEN):
            return Call(token.text, self._arguments(calls + 1))
        return Name(token.text)

    def _arguments(self, calls: int) -> tuple[Term, ...]:
        if calls > CALLS_NESTED_MAX:
            raise FilterError(f"more than {CALLS_NESTED_MAX} functions within each other")
        found: list[Term] = []
        while not self._skip(Kind.CLOSE):
            found.append(self._term(calls))
            if len(found) > ARGUMENTS_MAX:
                raise FilterError(f"a function takes at most {ARGUMENTS_MAX} arguments")
            if not self._skip(Kind.COMMA):
                self._take(Kind.CLOSE)
                break
        return tuple(found)

    def _next(self) -> Token:
        if self._place == len(self._tokens):
            raise FilterError("the filter ends too early")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, kind: Kind) -> Token:
        token = self._next()
        if token.kind is not kind:
            raise FilterError(f"unexpected {token.text!r}")
        return token

    def _skip(self, kind: Kind, text: str | None = None) -> bool:
        if self._place == len(self._tokens):
            return False
        token = self._tokens[self._place]
        found = token.kind is kind and (text is None or token.text == text)
        self._place += found
        return found
