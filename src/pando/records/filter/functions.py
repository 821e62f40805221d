"""The functions of filters: distances and formatted moments. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pando.records.filter.context import Context
from pando.records.filter.operands import Operand
from pando.records.filter.parts import Column, Fragment, joined
from pando.records.filter.slots import TimeSlot
from pando.records.filter.syntax import Call, FilterError, Name, Number, Term, Text

GEO_DISTANCE = "geoDistance"
STRFTIME = "strftime"


def call(context: Context, term: Call, operand: Callable[[Term], Operand]) -> Operand:
    """Give a function's value; `operand` resolves arguments. Raises FilterError."""
    if term.name == GEO_DISTANCE:
        return _distance(context, term, operand)
    if term.name == STRFTIME:
        return _formatted_time(context, term, operand)
    raise FilterError(f"unknown function {term.name!r}")


def _distance(context: Context, term: Call, operand: Callable[[Term], Operand]) -> Operand:
    if len(term.arguments) != 4 or not all(isinstance(each, Number | Name) for each in term.arguments):
        raise FilterError(f"{GEO_DISTANCE} takes four numbers or fields: lonA, latA, lonB, latB")
    found = [operand(each) for each in term.arguments]
    lon_a, lat_a, lon_b, lat_b = (each.sql for each in found)
    return _result(context.dialect.distance(lon_a, lat_a, lon_b, lat_b), found)


def _formatted_time(context: Context, term: Call, operand: Callable[[Term], Operand]) -> Operand:
    head, rest = term.arguments[:2], term.arguments[2:]
    is_right = bool(head) and all(isinstance(each, Text) for each in (head[0], *rest))
    if not is_right or isinstance(head[-1], Call):
        raise FilterError(f"{STRFTIME} takes a format, a moment and its modifiers, all but the moment as texts")
    found = [operand(each) for each in term.arguments]
    moment = _moment(found[1]) if len(found) > 1 else (TimeSlot(),)
    if len(found) == 1 or found[1].is_fixed:
        context.is_volatile = True
    sql = context.dialect.formatted_time((found[0].sql, moment, *(each.sql for each in found[2:])))
    return _result(sql, found)


def _moment(operand: Operand) -> Fragment:
    """Take the question's moment for `now`."""
    if not operand.is_fixed:
        return operand.sql
    return tuple(each if isinstance(each, str | Column) else TimeSlot(each) for each in operand.sql)


def _result(sql: Fragment, arguments: list[Operand]) -> Operand:
    guards = [each.guard for each in arguments if each.guard]
    return Operand(sql, strict=all(each.strict for each in arguments), guard=joined(" AND ", guards))
