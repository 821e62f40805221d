"""What an operator means in SQL, by what is known of its two sides. Pure.

`=` takes NULL and "" for the same, but for JSON values, which are compared as they are. `!=` holds for NULL. Not here:
several values on one side (`logic`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pando.records.filter.dialect import Dialect
from pando.records.filter.operands import Operand
from pando.records.filter.parts import FALSE, TRUE, Fragment, Join, joined
from pando.records.filter.slots import State
from pando.records.filter.syntax import Operator

_EMPTY: Final = (State.NULL, State.EMPTY)
_LIKE: Final = (Operator.LIKE, Operator.NOT_LIKE)


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison in SQL; it cannot hold where one of the joins in `rejects` has no row."""

    sql: Fragment
    rejects: frozenset[Join] = frozenset()


def compare(dialect: Dialect, left: Operand, operator: Operator, right: Operand) -> Compared:
    """Compare two operands, guards included."""
    sql, is_direct = _compare(dialect, left, operator, right)
    guards = [each for each in (left.guard, right.guard) if each]
    rejects = _rejecting(left, right) if is_direct else frozenset()
    if not guards:
        return Compared(sql, rejects)
    return Compared(("(", *joined(" AND ", [sql, *guards]), ")"), rejects)


def _rejecting(left: Operand, right: Operand) -> frozenset[Join]:
    """Find the joins without whose rows a side is NULL."""
    joins = [join for side in (left, right) if side.strict for join in side.joins]
    return frozenset(first for join in joins if (first := join.first_many))


def _compare(dialect: Dialect, left: Operand, operator: Operator, right: Operand) -> tuple[Fragment, bool]:
    """Give SQL, and whether it is NULL (or false) as soon as one side is NULL."""
    if operator is Operator.EQUAL:
        return _equal(dialect, left, right)
    if operator is Operator.NOT_EQUAL:
        return _not_equal(dialect, left, right), False
    if operator in _LIKE:
        pattern = right.pattern or dialect.containing(right.sql)
        return dialect.like(left.sql, pattern, negative=operator is Operator.NOT_LIKE), True
    return (*left.sql, f" {operator} ", *right.sql), True


def _equal(dialect: Dialect, left: Operand, right: Operand) -> tuple[Fragment, bool]:
    is_known = left.is_full or right.is_full
    if left.is_json or right.is_json:
        return dialect.same(left.sql, right.sql), is_known
    if left.state in _EMPTY and right.state in _EMPTY:
        return TRUE, False
    if is_known:
        return (*left.sql, " = ", *right.sql), True
    if left.state in _EMPTY or right.state in _EMPTY:
        other = right.sql if left.state in _EMPTY else left.sql
        return ("(", *other, " = '' OR ", *other, " IS NULL)"), False
    return (*_coalesced(left), " = ", *_coalesced(right)), False


def _not_equal(dialect: Dialect, left: Operand, right: Operand) -> Fragment:
    if left.is_json or right.is_json or left.is_full or right.is_full:
        return dialect.same(left.sql, right.sql, negative=True)
    if left.state in _EMPTY and right.state in _EMPTY:
        return FALSE
    if left.state in _EMPTY or right.state in _EMPTY:
        other = right.sql if left.state in _EMPTY else left.sql
        return ("(", *dialect.same(other, ("''",), negative=True), " AND ", *other, " IS NOT NULL)")
    return dialect.same(_coalesced(left), _coalesced(right), negative=True)


def _coalesced(operand: Operand) -> Fragment:
    return ("COALESCE(", *operand.sql, ", '')")
