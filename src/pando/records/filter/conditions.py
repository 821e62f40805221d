"""From a filter's tree to conditions on rows: names resolved, operators applied, joins made.

One `Conditions` translates all filters of one question about the same rows, so that they share joins. Rules of other
collections, where a client's filter needs them, are translated here, too: about the row of a join. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pando.records.filter import functions
from pando.records.filter.comparing import compare
from pando.records.filter.context import Context, Tree, Trust
from pando.records.filter.lexer import lex
from pando.records.filter.logic import AllMatch, Every, Logic, Scopes, Some, Test
from pando.records.filter.operands import Operand, bound
from pando.records.filter.parser import parse
from pando.records.filter.parts import Column, Fragment, Join, moved
from pando.records.filter.paths import Paths, Rows
from pando.records.filter.resolver import Resolver
from pando.records.filter.slots import Constant, Slot, State
from pando.records.filter.syntax import (
    RULE_COMPARISONS_MAX,
    AllOf,
    Call,
    Comparison,
    Condition,
    FilterError,
    Name,
    Term,
    Text,
)
from pando.records.model import Collection

Literals = Callable[[int], Slot]
"""Gives the slot of a filter's literal by its position."""


class Conditions:
    """Conditions on the rows of one join."""

    def __init__(self, context: Context, rows: Rows) -> None:
        self._context = context
        self._rows = rows
        self._tree = Tree()

    @property
    def singles(self) -> list[Join]:
        """The joins made so far that give one row at most: they belong into the FROM of the rows."""
        return self._tree.singles

    def logic(self, condition: Condition, trust: Trust, literals: Literals) -> Logic:
        """Translate a filter; raises FilterError, or ApiError 403."""
        hidden = self._tree.hidden if trust is Trust.CLIENT else {}
        return _Translation(self._context, self._resolver(trust), literals, hidden).logic(condition)

    @property
    def hidden(self) -> Mapping[Join, Fragment]:
        """The joins made so far whose rows a client sees only on a condition."""
        return self._tree.hidden

    def visible(self) -> list[Logic]:
        """Demand that relations of a client's filters and sorts lead to what the client may see, or nowhere."""
        return [
            Test(("(", Column(join, "id"), " IS NULL OR ", *condition, ")"), frozenset({join}))
            for join, condition in self._tree.hidden.items()
        ]

    def name(self, name: str, trust: Trust) -> Operand:
        """Translate a name alone, to sort by."""
        return self._resolver(trust).operand(name)

    def _resolver(self, trust: Trust) -> Resolver:
        paths = Paths(self._context, self._tree, self._may_list if trust is Trust.CLIENT else None)
        return Resolver(self._context, self._rows, paths, trust)

    # -- rules of other collections -----------------------------------------------------------------------------------

    def _may_list(self, collection: Collection, join: Join) -> Fragment:
        return rule_at(self._context, Rows(collection, join), collection.rules.list or "")


def rule_at(context: Context, rows: Rows, rule: str) -> Fragment:
    """Ask whether a row satisfies a rule."""
    try:
        return _rule_at(context, rows, rule)
    except FilterError as error:  # what the rule says is not for who made the filter
        raise FilterError("what it needs to read cannot be listed now") from error


def _rule_at(context: Context, rows: Rows, rule: str) -> Fragment:
    lexed = lex(rule)
    here = Join(rows.join.alias, 0)  # for the rule it is one row, however many the way to it gives
    conditions = Conditions(context, Rows(rows.collection, here))
    logic = conditions.logic(
        parse(lexed, comparisons_max=RULE_COMPARISONS_MAX),
        Trust.RULE,
        lambda position: Constant(lexed.literals[position]),
    )
    scopes = Scopes(context.dialect, context.new_alias)
    condition = scopes.write(logic)
    if conditions.singles:
        condition = scopes.exists(conditions.singles, condition)
    return moved(condition, {here: rows.join})


class _Translation:
    """Translates one filter."""

    def __init__(
        self, context: Context, resolver: Resolver, literals: Literals, hidden: Mapping[Join, Fragment]
    ) -> None:
        self._context = context
        self._hidden = hidden
        self._resolver = resolver
        self._literals = literals

    def logic(self, condition: Condition) -> Logic:
        if isinstance(condition, Comparison):
            return self._test(condition)
        items = tuple(self.logic(each) for each in condition.items)
        return Every(items) if isinstance(condition, AllOf) else Some(items)

    def _test(self, comparison: Comparison) -> Test:
        left, right = self._operand(comparison.left), self._operand(comparison.right)
        dialect, operator = self._context.dialect, comparison.operator
        compared = compare(dialect, left, operator, right)
        joins = left.joins | right.joins
        if comparison.any_match:
            return Test(compared.sql, joins, compared.rejects)

        def again(to_left: Mapping[Join, Join], to_right: Mapping[Join, Join]) -> Fragment:
            return compare(dialect, left.moved(to_left), operator, right.moved(to_right)).sql

        return Test(compared.sql, joins, compared.rejects, AllMatch((left.joins, right.joins), again, self._hidden))

    def _operand(self, term: Term) -> Operand:
        if isinstance(term, Name):
            return self._resolver.operand(term.text)
        if isinstance(term, Call):
            return functions.call(self._context, term, self._operand)
        state = State.EMPTY if isinstance(term, Text) and term.is_empty else State.FULL
        return bound(self._literals(term.position), state)
