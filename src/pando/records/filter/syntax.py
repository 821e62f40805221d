"""The filter language as values: operands, comparisons, groups; its limits and its error.

`a || b && c` is read as SQL reads it: `&&` binds closer. Texts and numbers of a filter are kept beside the tree, which
refers to them by position, so that filters that differ in nothing else share one tree. Pure. Not here: reading text
(`lexer`, `parser`), what names mean (`resolver`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pando.errors import CallerError

CLIENT_CHARS_MAX: Final = 3500
"""Longest filter of a client (PocketBase's figure)."""
CLIENT_COMPARISONS_MAX: Final = 200
"""Most comparisons in the filter of a client (PocketBase's figure)."""
RULE_CHARS_MAX: Final = 64 * 1024
"""Longest rule; far above what people write."""
RULE_COMPARISONS_MAX: Final = 500
"""Most comparisons in a rule: SQLite takes expressions up to 1000 deep."""
NESTING_MAX: Final = 50
"""Parentheses within parentheses."""
CALLS_NESTED_MAX: Final = 3
"""Functions within functions (PocketBase's figure)."""
ARGUMENTS_MAX: Final = 10
"""Arguments of one function."""
JOINS_MAX: Final = 200
"""Tables and lists that one question may read besides its own, with those of rules that it needs."""
JOINS_TOGETHER_MAX: Final = 60
"""Tables and lists in one FROM: SQLite takes 64."""
RELATIONS_MAX: Final = 6
"""Relations that one path may follow (PocketBase's figure)."""

Literal = float | str
"""A number or a text."""


class FilterError(CallerError):
    """A rule, filter or sort that cannot be used; the message says why."""

    code = "INVALID_FILTER"


class UnknownName(FilterError):
    """A name that leads nowhere, or to what the writer of the filter may not know of."""


class Operator(StrEnum):
    """What is asked of two operands."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MORE = ">"
    MORE_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    LIKE = "~"
    NOT_LIKE = "!~"


@dataclass(frozen=True, slots=True)
class Text:
    """A text: the `position`-th literal of its filter."""

    position: int
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Number:
    """A number: the `position`-th literal of its filter."""

    position: int


@dataclass(frozen=True, slots=True)
class Name:
    """A field, path, macro or value of the request, as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Term, ...]


Term = Text | Number | Name | Call
"""What stands on a side of a comparison."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two operands and what is asked of them; `any_match`: of several values one is enough."""

    left: Term
    operator: Operator
    right: Term
    any_match: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds when all hold."""

    items: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when one holds."""

    items: tuple[Condition, ...]


Condition = Comparison | AllOf | AnyOf
"""A filter or a part of it."""
