"""The sort language: `-created,author.name`, at most eight terms. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pando.records.filter.conditions import Conditions
from pando.records.filter.context import Context, Trust
from pando.records.filter.logic import Scopes
from pando.records.filter.operands import Operand
from pando.records.filter.parts import Column, Fragment, joined
from pando.records.filter.paths import Rows
from pando.records.filter.syntax import FilterError

SORT_TERMS_MAX: Final = 8
"""Most terms (PocketBase's figure)."""
SORT_TERM_CHARS_MAX: Final = 255
"""Longest term (PocketBase's figure)."""


@dataclass(frozen=True, slots=True)
class SortTerm:
    """A name to sort by, and which way."""

    name: str
    is_descending: bool


def parse_sort(text: str) -> tuple[SortTerm, ...]:
    """Take a sort apart; raises FilterError."""
    terms = [each.strip() for each in text.split(",") if each.strip()]
    if len(terms) > SORT_TERMS_MAX:
        raise FilterError(f"more than {SORT_TERMS_MAX} terms to sort by")
    if any(len(each) > SORT_TERM_CHARS_MAX for each in terms):
        raise FilterError(f"a term to sort by is longer than {SORT_TERM_CHARS_MAX} characters")
    return tuple(SortTerm(each.removeprefix("-").removeprefix("+").strip(), each.startswith("-")) for each in terms)


class Sorting:
    """Makes ORDER BY for rows of a question."""

    def __init__(self, context: Context, rows: Rows, conditions: Conditions, scopes: Scopes) -> None:
        self._context = context
        self._rows = rows
        self._conditions = conditions
        self._scopes = scopes

    def order(self, text: str, trust: Trust) -> Fragment:
        """Write the terms of ORDER BY, or nothing; raises FilterError."""
        found = [self._term(each, trust) for each in parse_sort(text)]
        return joined(", ", [each for each in found if each])

    def _term(self, term: SortTerm, trust: Trust) -> Fragment:
        direction = " DESC" if term.is_descending else ""
        if term.name == "@random":
            self._context.is_volatile = True
            return (*self._context.dialect.random(), direction)
        if term.name == "@rowid":
            if self._rows.collection.is_view:
                raise FilterError("a view has no @rowid to sort by")
            return (Column(self._rows.join, self._context.dialect.row_id()), direction)
        value = self._value(self._conditions.name(term.name, trust), term)
        return (*value, direction) if value else ()

    def _value(self, operand: Operand, term: SortTerm) -> Fragment:
        if operand.is_fixed:
            return ()
        value = operand.sql
        if operand.guard:
            value = ("CASE WHEN ", *operand.guard, " THEN ", *value, " END")
        if not any(join.first_many for join in operand.joins):
            return value
        one = Operand(value)
        return self._scopes.one_of(one, self._conditions.hidden, "MAX" if term.is_descending else "MIN")
