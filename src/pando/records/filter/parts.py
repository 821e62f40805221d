"""SQL that is not text yet: fragments, and the joined tables that they refer to.

A fragment is a tuple of texts, slots (bound values) and references to columns of joins. It becomes text last, when
it is known under which alias each join is read; so one comparison can be written twice, over two sets of joins. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pando.records.filter.slots import Slot


@dataclass(eq=False, slots=True)
class Join:
    """A table or list that is read beside the question's own.

    `is_many` if it may give several rows for one; `is_list` for a list within a value.

    `on` may be added to until the join is first used. The question's own table is a Join, too: without `source`.
    """

    alias: str
    number: int
    source: Fragment = ()
    on: Fragment = ()
    parent: Join | None = None
    is_many: bool = False
    is_list: bool = False

    @property
    def first_many(self) -> Join | None:
        """The first join on the way here that may give several rows; None if there is one row at most."""
        above = self.parent.first_many if self.parent else None
        return above or (self if self.is_many else None)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a join."""

    join: Join
    name: str


Part = str | Slot | Column
Fragment = tuple[Part, ...]

TRUE: Fragment = ("1",)
FALSE: Fragment = ("0",)
NULL: Fragment = ("NULL",)

_CHAIN: Final = 32


def joined(separator: str, fragments: Iterable[Fragment]) -> Fragment:
    """Put fragments in a row with a text between them."""
    parts: list[Part] = []
    for each in fragments:
        if parts:
            parts.append(separator)
        parts.extend(each)
    return tuple(parts)


def chained(separator: str, fragments: Sequence[Fragment]) -> Fragment:
    """Put conditions in a row with AND or OR between them; many of them in groups, for SQLite bounds the depth."""
    if len(fragments) <= _CHAIN:
        return joined(separator, fragments)
    groups = [fragments[place : place + _CHAIN] for place in range(0, len(fragments), _CHAIN)]
    return chained(separator, [enclosed(joined(separator, each)) for each in groups])


def enclosed(fragment: Fragment) -> Fragment:
    """Put it in parentheses."""
    return ("(", *fragment, ")")


def moved(fragment: Fragment, to: Mapping[Join, Join]) -> Fragment:
    """Refer to other joins."""
    return tuple(
        Column(to.get(each.join, each.join), each.name) if isinstance(each, Column) else each for each in fragment
    )


def lineage(join: Join) -> Iterator[Join]:
    """Give a join and those that it is read through, itself first."""
    at: Join | None = join
    while at is not None:
        yield at
        at = at.parent
