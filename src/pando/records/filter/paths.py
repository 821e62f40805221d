"""Paths of names from a record on: columns, JSON, relations and back relations, with their joins and modifiers.

A path starts at rows that are read (`Rows`) or at values that the request carries (`Sent`). What a client may not
see, hidden fields and passwords, is unknown to it, and so is a collection whose list rule is for superusers. Rows that
a list rule keeps from a client are absent where a back relation leads to them; where a relation does, the record that
refers to them is not found either (`Tree.hidden`), as in PocketBase. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from pando.records.filter.context import Context, Tree
from pando.records.filter.dialect import Dialect
from pando.records.filter.operands import Operand, bound
from pando.records.filter.parts import TRUE, Column, Fragment, Join
from pando.records.filter.request import Area, RequestPath
from pando.records.filter.slots import LastSlot, LengthSlot, ListSlot, RequestSlot
from pando.records.filter.syntax import RELATIONS_MAX, FilterError, UnknownName
from pando.records.model import (
    BoolField,
    Collection,
    Field,
    FileField,
    GeoPointField,
    JsonField,
    NumberField,
    PasswordField,
    RelationField,
    SelectField,
    TextField,
)

_UNIQUE = re.compile(
    r"""\s*CREATE\s+UNIQUE\s+INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?\S+\s+ON\s+\S+?\s*
        \(\s*[`"'\[]?(?P<column>\w+)[`"'\]]?(?:\s+COLLATE\s+\w+)?(?:\s+(?:ASC|DESC))?\s*\)\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_VIA: Final = "_via_"
LISTS: Final = (SelectField, RelationField, FileField)
"""Fields that can have several values."""
_WORD = re.compile(r"[A-Za-z0-9_]+")


class Modifier(StrEnum):
    """What is asked of a value instead of the value."""

    NONE = ""
    ISSET = "isset"
    CHANGED = "changed"
    LENGTH = "length"
    EACH = "each"
    LOWER = "lower"


_TEXT: Final = TextField(id="", name="")
_MODIFIERS: Final = frozenset(each.value for each in Modifier if each)


@dataclass(frozen=True, slots=True)
class Path:
    """A name in a filter, taken apart."""

    name: str
    keys: tuple[str, ...]
    modifier: Modifier = Modifier.NONE

    def unknown(self) -> FilterError:
        """Make the error for whatever is not there, or may not be known to be there."""
        return UnknownName(f"unknown field {self.name!r}")

    def unsuitable(self) -> FilterError:
        """Make the error for a modifier that the value does not have."""
        return FilterError(f"{self.name!r} cannot have its modifier")


def split(name: str) -> Path:
    """Take a name apart; raises FilterError."""
    *keys, last = name.split(".")
    last, colon, modifier = last.partition(":")
    keys.append(last)
    if not all(keys) or (colon and modifier not in _MODIFIERS):
        raise FilterError(f"cannot read the name {name!r}")
    return Path(name, tuple(keys), Modifier(modifier))


class Source(Protocol):
    """Where a path starts, or has come to: a record of a collection."""

    @property
    def collection(self) -> Collection:
        """What fields there are."""
        ...

    @property
    def join(self) -> Join | None:
        """The join to read through, if any."""
        ...

    def column(self, name: str) -> Fragment:
        """Give a field's value."""
        ...

    def items(self, dialect: Dialect, name: str) -> Fragment:
        """Make a table of a field's values."""
        ...

    def operand(self, context: Context, field: Field, keys: tuple[str, ...]) -> Operand:
        """Give a field's value, or one inside of it, to compare."""
        ...

    def length(self, dialect: Dialect, name: str) -> Operand:
        """Count a field's values."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a join."""

    collection: Collection
    join: Join

    def column(self, name: str) -> Fragment:
        """See Source."""
        return (Column(self.join, name),)

    def items(self, dialect: Dialect, name: str) -> Fragment:
        """See Source."""
        return dialect.items(self.column(name))

    def operand(self, context: Context, field: Field, keys: tuple[str, ...]) -> Operand:
        """See Source."""
        if isinstance(field, JsonField | GeoPointField):
            # A place as a whole is compared as the text that it is: absent ones are empty.
            is_json = isinstance(field, JsonField) or bool(keys)
            return Operand(context.dialect.extracted(self.column(field.name), keys), is_json=is_json)
        return Operand(self.column(field.name))

    def length(self, dialect: Dialect, name: str) -> Operand:
        """See Source."""
        return Operand(dialect.length(self.column(name)), strict=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """Values of the request, of a record of `collection` (the body's, or who has signed in)."""

    collection: Collection
    area: Area
    join: None = None

    def _path(self, *keys: str) -> RequestPath:
        return RequestPath(self.area, keys)

    def column(self, name: str) -> Fragment:
        """See Source."""
        return (LastSlot(self._path(name)),)

    def items(self, dialect: Dialect, name: str) -> Fragment:
        """See Source."""
        return dialect.listed((ListSlot(self._path(name)),))

    def operand(self, context: Context, field: Field, keys: tuple[str, ...]) -> Operand:
        """See Source."""
        path = self._path(field.name, *keys)
        is_json = isinstance(field, JsonField | GeoPointField)
        found = bound(RequestSlot(path), context.shapes.state(path), is_json=is_json)
        if self.area is Area.AUTH and isinstance(field, NumberField | BoolField):
            return Operand(context.dialect.as_column(field, found.sql), found.state, pattern=found.pattern)
        return found

    def length(self, dialect: Dialect, name: str) -> Operand:
        """See Source."""
        return bound(LengthSlot(self._path(name), counts_empty=self.area is Area.BODY))


@dataclass(frozen=True, slots=True)
class Target:
    """A collection to join: under which key, and whether it may give several rows."""

    collection: Collection
    key: tuple[object, ...]
    is_many: bool


MayList = Callable[[Collection, Join], Fragment]


class Paths:
    """Follows paths and makes their joins in one tree.

    For a client's filter `may_list` gives the condition on which the client may see a row of a join.
    """

    def __init__(self, context: Context, tree: Tree, may_list: MayList | None) -> None:
        self._context = context
        self._tree = tree
        self._may_list = may_list

    def operand(self, source: Source, path: Path, keys: tuple[str, ...]) -> Operand:
        """Give what `keys` lead to from a source; raises FilterError."""
        for place, key in enumerate(keys):
            field, rest = self._field(source.collection, key), keys[place + 1 :]
            if field is not None and not (isinstance(field, RelationField) and rest):
                return self._leaf(source, field, rest, path)
            if place >= RELATIONS_MAX:
                raise FilterError(f"{path.name!r} follows more than {RELATIONS_MAX} relations")
            if isinstance(field, RelationField) and rest == ("id",) and self._has_ids(source, field, path):
                return self._ids(source, field, path)
            back = None if isinstance(field, RelationField) else self.back_relation(source.collection, key)
            if isinstance(field, RelationField):
                source = self._follow(source, field, path)
            elif back is not None:
                source = self._follow_back(source, *back, path)
            else:
                break
        raise path.unknown()

    def back_relation(self, collection: Collection, key: str) -> tuple[Collection, RelationField] | None:
        """Find what `<collection>_via_<field>` means."""
        name, via, field_name = key.partition(_VIA)
        other = self._context.schema.find(name) if via else None
        field = None if other is None else self._field(other, field_name)
        if other is None or not isinstance(field, RelationField) or field.collection_id != collection.id:
            return None
        return other, field

    def open(self, collection: Collection, key: str, path: Path) -> Rows:
        """Join all rows of a collection, whatever the row."""
        return self._joined(Target(collection, ("all", collection.id, key), True), None, lambda _: TRUE, path)

    # -- steps --------------------------------------------------------------------------------------------------------

    def _field(self, collection: Collection, name: str) -> Field | None:
        field = collection.field(name)
        if field is not None and self._may_list and (field.hidden or isinstance(field, PasswordField)):
            return None
        return field

    def _follow(self, source: Source, field: RelationField, path: Path) -> Rows:
        target = self._context.schema.find(field.collection_id)
        if target is None:
            raise path.unknown()
        parent, of = source.join, source.column(field.name)
        if field.is_multiple:
            parent = self._items(source, field)
            of = (Column(parent, "value"),)
        # Nothing says that the ids of a view differ.
        way = Target(target, (_origin(source), field.name, "record"), target.is_view)
        rows = self._joined(way, parent, lambda join: (Column(join, "id"), " = ", *of), path)
        may_list = self._may_list
        if may_list and target.rules.list:
            self._tree.hide(rows.join, lambda: may_list(target, rows.join))
        return rows

    def _follow_back(self, source: Source, other: Collection, field: RelationField, path: Path) -> Rows:
        own_id = source.column("id")

        def on(join: Join) -> Fragment:
            of: Fragment = (Column(join, field.name),)
            if field.is_multiple:
                return (*own_id, " IN (SELECT value FROM ", *self._context.dialect.items(of), ")")
            return (*of, " = ", *own_id)

        is_many = field.is_multiple or not _is_unique(other, field.name)
        key = (_origin(source), other.id, field.name, "back")
        if not (self._may_list and other.rules.list):
            return self._joined(Target(other, key, is_many), source.join, on, path)
        may_list = self._may_list
        return self._joined(
            Target(other, (*key, "listed"), is_many),
            source.join,
            lambda join: (*on(join), " AND ", *may_list(other, join)),
            path,
        )

    def _joined(self, target: Target, parent: Join | None, on: Callable[[Join], Fragment], path: Path) -> Rows:
        """Find or make the join of a collection's rows."""
        collection = target.collection
        if self._may_list and collection.rules.list is None:
            raise path.unknown()
        found = self._tree.find(target.key)
        if found is None:
            self._context.tables.add(collection.name)
            table = (self._context.dialect.name(collection.name),)
            found = self._context.new_join(table, parent, is_many=target.is_many)
            self._tree.keep(target.key, found)
            found.on = on(found)
        return Rows(collection, found)

    def _items(self, source: Source, field: Field) -> Join:
        """Find or make the join of a field's values."""
        key = (_origin(source), field.name, "items")
        found = self._tree.find(key)
        if found is None:
            table = source.items(self._context.dialect, field.name)
            found = self._context.new_join(table, source.join, is_many=True, is_list=True)
            found.on = TRUE
            self._tree.keep(key, found)
        return found

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _has_ids(self, source: Source, field: RelationField, path: Path) -> bool:
        """Whether the ids in a relation can be taken for those of its records."""
        is_sent = isinstance(source, Sent) and source.area is Area.BODY
        if path.modifier is Modifier.LOWER and not field.is_multiple:
            return False  # in small letters that of no record is NULL, as in PocketBase, and not empty
        return not is_sent and not (field.is_multiple and self._may_list)

    def _ids(self, source: Source, field: RelationField, path: Path) -> Operand:
        """Give the ids in a relation, for which the records need not be read."""
        if field.is_multiple:
            of: Fragment = (Column(self._items(source, field), "value"),)
            if path.modifier is Modifier.NONE:  # a column of ids is text, also to what a number is compared with
                of = self._context.dialect.as_column(_TEXT, of)
            found = Operand(of)
        else:
            found = source.operand(self._context, field, ())
        return self.lower(found) if path.modifier is Modifier.LOWER else found

    def _leaf(self, source: Source, field: Field, rest: tuple[str, ...], path: Path) -> Operand:
        """Give a field's value. Modifiers that it cannot have mean nothing, as in PocketBase."""
        if rest and not _has_inside(field, rest):
            raise path.unknown()
        if isinstance(field, LISTS) and path.modifier is Modifier.LENGTH:
            return source.length(self._context.dialect, field.name)
        if isinstance(field, LISTS) and path.modifier is Modifier.EACH:
            # PocketBase takes items of the body for full, and so do rules that people have written for it.
            is_sent = isinstance(source, Sent) and source.area is Area.BODY
            return Operand((Column(self._items(source, field), "value"),), taken_for_full=is_sent)
        found = source.operand(self._context, field, rest)
        if path.modifier is Modifier.LOWER:
            found = self.lower(found)
        return self._guarded(found, source, field)

    def lower(self, operand: Operand) -> Operand:
        """Make a value's letters small."""
        lower = self._context.dialect.lower
        pattern = lower(operand.pattern) if operand.pattern else ()
        return Operand(lower(operand.sql), operand.state, operand.is_json, operand.strict, operand.guard, pattern)

    def _guarded(self, operand: Operand, source: Source, field: Field) -> Operand:
        """Let clients find addresses only where they are public."""
        is_email = field.name == "email" and source.collection.is_auth
        if not is_email or self._may_list is None:
            return operand
        guard = (*source.column("emailVisibility"), " = TRUE")
        return Operand(operand.sql, operand.state, operand.is_json, operand.strict, guard, operand.pattern)


def _origin(source: Source) -> object:
    if source.join is not None:
        return source.join
    return source.area if isinstance(source, Sent) else None


def _has_inside(field: Field, keys: tuple[str, ...]) -> bool:
    """Whether there is something inside of a field's value under these keys."""
    return isinstance(field, JsonField | GeoPointField) and all(_WORD.fullmatch(each) for each in keys)


def _is_unique(collection: Collection, column: str) -> bool:
    """Whether an index says that a column's values differ."""
    found = (_UNIQUE.fullmatch(each) for each in collection.indexes)
    return any(each is not None and each["column"].lower() == column.lower() for each in found)
