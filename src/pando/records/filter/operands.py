"""What a side of a comparison has become: SQL, and what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pando.records.filter.parts import NULL, Column, Fragment, Join, moved
from pando.records.filter.slots import Constant, PatternSlot, Slot, State


@dataclass(frozen=True, slots=True)
class Operand:
    """A side of a comparison.

    `state` is UNKNOWN for whatever depends on a row; a row's value may still be `taken_for_full`. `is_json` values are
    compared with IS, never coalesced with "". A `strict` operand is NULL when the joins that it reads have no row.
    `guard` must hold, too, for a comparison with it to hold (empty: nothing to guard). `pattern` is the operand as the
    right side of LIKE, unless that is made in SQL.
    """

    sql: Fragment
    state: State = State.UNKNOWN
    is_json: bool = False
    strict: bool = True
    guard: Fragment = ()
    pattern: Fragment = ()
    taken_for_full: bool = False

    @property
    def is_full(self) -> bool:
        """Whether it is compared as what is neither NULL nor empty."""
        return self.taken_for_full or self.state is State.FULL

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for all rows."""
        return self.state is not State.UNKNOWN

    @property
    def joins(self) -> frozenset[Join]:
        """The joins that it reads (a guard reads these, or joins of its own)."""
        return frozenset(each.join for each in self.sql if isinstance(each, Column))

    def moved(self, to: Mapping[Join, Join]) -> Operand:
        """Read other joins, for what it is then."""
        sql, guard, pattern = (moved(each, to) for each in (self.sql, self.guard, self.pattern))
        return Operand(sql, self.state, self.is_json, self.strict, guard, pattern)


NOTHING = Operand(NULL, State.NULL)
"""NULL."""


def bound(slot: Slot, state: State = State.FULL, *, is_json: bool = False) -> Operand:
    """Make an operand of a bound value; what is known to be NULL or empty is written as such."""
    if state is State.NULL:
        return Operand(NULL, state, is_json)
    if state is State.EMPTY:
        return Operand(("''",), state, is_json, pattern=(PatternSlot(Constant("")),))
    return Operand((slot,), state, is_json, pattern=(PatternSlot(slot),))
