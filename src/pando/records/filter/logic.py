"""From comparisons over joins to one condition on a row.

What a filter means is said in terms of one big join: the question's row beside all combinations of the rows that its
paths lead to (one row of NULLs where a path leads nowhere); a row is found if one combination satisfies the filter.
A comparison without `?` over several values also demands that no value fails it.

That join is never made. Conditions know AND and OR only, so "some combination" can be moved inwards: to the smallest
part of the filter that uses a join, as `EXISTS`. Parts that are joined by AND and use the same join share one EXISTS,
since they speak of the same row; parts joined by OR need not. So no row comes twice, nothing is made distinct, and
SQLite stops at the first match. Pure. Not here: what comparisons mean (`comparing`), which joins there are (`paths`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pando.records.filter.dialect import Dialect
from pando.records.filter.operands import Operand
from pando.records.filter.parts import TRUE, Fragment, Join, chained, enclosed, joined, lineage, moved
from pando.records.filter.syntax import JOINS_TOGETHER_MAX, FilterError


@dataclass(frozen=True, slots=True)
class AllMatch:
    """That a comparison must hold for all values: the joins of its sides, and the comparison with others instead.

    Rows of `hidden` joins count only on their condition.
    """

    sides: tuple[frozenset[Join], frozenset[Join]]
    again: Callable[[Mapping[Join, Join], Mapping[Join, Join]], Fragment]
    hidden: Mapping[Join, Fragment]


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison: its SQL, the joins that it reads, those without whose rows it fails."""

    sql: Fragment
    joins: frozenset[Join] = frozenset()
    rejects: frozenset[Join] = frozenset()
    all_match: AllMatch | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """Holds when all hold."""

    items: tuple[Logic, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Holds when one holds."""

    items: tuple[Logic, ...]


Logic = Test | Every | Some


def joins_of(logic: Logic) -> frozenset[Join]:
    """Find all joins that are read."""
    if isinstance(logic, Test):
        return logic.joins
    return frozenset().union(*(joins_of(each) for each in logic.items))


def _firsts(joins: Iterable[Join]) -> frozenset[Join]:
    return frozenset(first for join in joins if (first := join.first_many))


def _rejects(logic: Logic) -> frozenset[Join]:
    """Find the joins without whose rows it cannot hold."""
    if isinstance(logic, Test):
        return logic.rejects
    found = [_rejects(each) for each in logic.items]
    return frozenset().union(*found) if isinstance(logic, Every) else frozenset.intersection(*found)


class Scopes:
    """Writes conditions; joins that may give several rows are read in the smallest scope that will do."""

    def __init__(self, dialect: Dialect, new_alias: Callable[[], str]) -> None:
        self._dialect = dialect
        self._new_alias = new_alias

    def write(self, logic: Logic) -> Fragment:
        """Write a condition that stands alone in a WHERE, or beside AND."""
        return self._write(logic, frozenset(), True)

    def _write(self, logic: Logic, hosted: frozenset[Join], is_outer: bool) -> Fragment:
        """Write a condition; `hosted` are first joins that are read already, `is_outer` if rows stand or fall by it."""
        if isinstance(logic, Test):
            return self._test(logic, hosted, is_outer)
        if isinstance(logic, Some):
            return enclosed(chained(" OR ", [self._write(each, hosted, False) for each in logic.items]))
        parts = _connected(_flat(logic), hosted)
        return enclosed(chained(" AND ", [self._together(each, hosted, is_outer) for each in parts]))

    def tables(self, joins: Iterable[Join]) -> Fragment:
        """Write joins of a FROM that has begun, each with at most one row, or with NULLs where there is none."""
        return self._rest(_ordered(joins), frozenset())

    def exists(self, joins: Iterable[Join], condition: Fragment) -> Fragment:
        """Ask whether some combination of rows satisfies a condition."""
        return self._exists(joins, condition, frozenset(), False)

    def _exists(self, joins: Iterable[Join], condition: Fragment, inner: frozenset[Join], is_outer: bool) -> Fragment:
        """Ask for a combination of rows; without rows of `inner` joins the condition fails."""
        members = _ordered(joins)
        # SQLite can make a join of an outer EXISTS that begins with a table. See _from for all others.
        first = next((each for each in members if each in inner and (is_outer or each.is_list)), None)
        return ("EXISTS (SELECT 1", *self._from(members, inner, first, condition), ")")

    def one_of(self, operand: Operand, hidden: Mapping[Join, Fragment], function: str) -> Fragment:
        """Make one value of all values that a path leads to."""
        copies = self._copies(_members(operand.joins, _firsts(operand.joins)), hidden)
        value = operand.moved(copies).sql
        return ("(SELECT ", function, "(", *value, ")", *self._from(_ordered(copies.values()), frozenset(), None), ")")

    def _test(self, test: Test, hosted: frozenset[Join], is_outer: bool) -> Fragment:
        firsts = _firsts(test.joins)
        own = firsts - hosted
        found = test.sql
        if own:
            found = self._exists(_members(test.joins, own), test.sql, test.rejects, is_outer)
        if not test.all_match or not firsts:
            return found
        return (*found, " AND ", *self._none_fails(test.all_match))

    def _none_fails(self, all_match: AllMatch) -> Fragment:
        """Ask whether no value of one side with any value of the other fails a comparison."""
        left, right = (self._copies(_members(joins, _firsts(joins)), all_match.hidden) for joins in all_match.sides)
        firsts = [to[each] for to in (left, right) for each in to if each.first_many is each]
        # A lone path without rows has nothing that could fail; of two, the other's values are compared with NULL.
        inner = frozenset(firsts if len(firsts) == 1 else ())
        first = next((each for each in inner if each.is_list), None)
        condition = ("NOT (", *all_match.again(left, right), ")")
        members = _ordered([*left.values(), *right.values()])
        return ("NOT EXISTS (SELECT 1", *self._from(members, inner, first, condition), ")")

    def _copies(self, joins: Iterable[Join], hidden: Mapping[Join, Fragment]) -> dict[Join, Join]:
        """Make joins that read the same once more; rows of hidden joins only on their condition."""
        to = {
            each: Join(self._new_alias(), each.number, is_many=each.is_many, is_list=each.is_list)
            for each in _ordered(joins)
        }
        for each, copy in to.items():
            copy.source = moved(each.source, to)
            copy.on = moved(joined(" AND ", [each.on, hidden[each]]) if each in hidden else each.on, to)
        return to

    def _together(self, items: Sequence[Logic], hosted: frozenset[Join], is_outer: bool) -> Fragment:
        """Write parts that are joined by AND and speak of the same rows."""
        if len(items) == 1:
            return self._write(items[0], hosted, is_outer)
        uses = [_firsts(joins_of(each)) - hosted for each in items]
        shared = frozenset(join for use in uses for join in use if sum(join in other for other in uses) > 1)
        condition = chained(" AND ", [self._write(each, hosted | shared, is_outer) for each in items])
        joins = _members((join for each in items for join in joins_of(each)), shared)
        return self._exists(joins, condition, frozenset().union(*(_rejects(each) for each in items)), is_outer)

    def _from(
        self, members: Sequence[Join], inner: frozenset[Join], first: Join | None, condition: Fragment = ()
    ) -> Fragment:
        """Write FROM and WHERE; without a `first` join it begins with one row, beside which there may be none.

        SQLite keeps an automatic index for a table that is not the first, and so reads a table without a suitable
        index once, not once for each row outside.
        """
        if first is None:
            start: Fragment = (f" FROM (SELECT 1) AS {self._dialect.name(self._new_alias())}",)
            return (*start, *self._rest(members, inner), *((" WHERE ", *condition) if condition else ()))
        rest = self._rest([each for each in members if each is not first], inner)
        where = joined(" AND ", [each for each in (first.on, condition) if each and each != TRUE])
        return (" FROM ", *self._table(first), *rest, *((" WHERE ", *where) if where else ()))

    def _rest(self, members: Sequence[Join], inner: frozenset[Join]) -> Fragment:
        if len(members) > JOINS_TOGETHER_MAX:
            raise FilterError(f"more than {JOINS_TOGETHER_MAX} related collections and lists together")
        return joined(
            "",
            ((" JOIN " if each in inner else " LEFT JOIN ", *self._table(each), " ON ", *each.on) for each in members),
        )

    def _table(self, join: Join) -> Fragment:
        return (*join.source, f" AS {self._dialect.name(join.alias)}")


def _members(joins: Iterable[Join], firsts: frozenset[Join]) -> frozenset[Join]:
    """Find what has to be read for joins, from some first ones on."""
    return frozenset(each for join in joins if join.first_many in firsts for each in lineage(join) if each.first_many)


def _ordered(joins: Iterable[Join]) -> list[Join]:
    """Put joins in an order in which each comes after those that it is read through."""
    return sorted(joins, key=lambda each: each.number)


def _flat(logic: Every) -> list[Logic]:
    found: list[Logic] = []
    for each in logic.items:
        found.extend(_flat(each) if isinstance(each, Every) else [each])
    return found


def _connected(items: Sequence[Logic], hosted: frozenset[Join]) -> list[list[Logic]]:
    """Group what uses the same joins; groups and items keep their order."""
    groups: list[tuple[set[Join], list[int]]] = []
    for place, each in enumerate(items):
        joins, places = set(_firsts(joins_of(each)) - hosted), [place]
        apart = []
        for group in groups:
            if group[0] & joins:
                joins |= group[0]
                places += group[1]
            else:
                apart.append(group)
        groups = [*apart, (joins, sorted(places))]
    return [[items[place] for place in places] for _, places in sorted(groups, key=lambda each: each[1])]
