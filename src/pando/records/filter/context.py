"""What all parts of one compilation share: schema, dialect, what is known of the request; joins made so far. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import StrEnum

from pando.records.filter.dialect import Dialect
from pando.records.filter.parts import Fragment, Join
from pando.records.filter.slots import Shapes
from pando.records.filter.syntax import JOINS_MAX, FilterError
from pando.records.model import Schema


class Trust(StrEnum):
    """Who wrote a filter: it decides what the filter may name."""

    RULE = "rule"
    SUPERUSER = "superuser"
    CLIENT = "client"


class Context:
    """One compilation. `tables` are the collections read; `is_volatile` if the clock or chance has a say."""

    def __init__(self, schema: Schema, dialect: Dialect, shapes: Shapes) -> None:
        self.schema = schema
        self.dialect = dialect
        self.shapes = shapes
        self.tables: set[str] = set()
        self.is_volatile = False
        self._aliases = 0
        self._joins = 0

    def new_alias(self) -> str:
        """Name a table within the SQL."""
        self._aliases += 1
        return f"t{self._aliases}"

    def new_join(self, source: Fragment, parent: Join | None, *, is_many: bool, is_list: bool = False) -> Join:
        """Make a join; raises FilterError when there are too many."""
        self._joins += 1
        if self._joins > JOINS_MAX:
            raise FilterError(f"more than {JOINS_MAX} related collections and lists")
        return Join(self.new_alias(), self._joins, source, parent=parent, is_many=is_many, is_list=is_list)


class Tree:
    """The joins around one row; the same way leads to the same join.

    `hidden` are joins that a client's filter or sort reads, with the condition on which the client may see their rows.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Join] = {}
        self.hidden: dict[Join, Fragment] = {}

    def find(self, key: Hashable) -> Join | None:
        """Find a join that was made under a key."""
        return self._found.get(key)

    def keep(self, key: Hashable, join: Join) -> None:
        """Keep a join under a key."""
        self._found[key] = join

    def hide(self, join: Join, condition: Callable[[], Fragment]) -> None:
        """Note on what condition a client may see a join's rows."""
        if join not in self.hidden:
            self.hidden[join] = condition()

    @property
    def singles(self) -> list[Join]:
        """The joins that give one row at most."""
        return [each for each in self._found.values() if each.first_many is None]
