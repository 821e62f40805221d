"""Records as values, made of rows, and their JSON for somebody who looks at them.

JSON has its keys sorted. It never shows passwords and token keys; hidden fields only to superusers; `email` of an auth
record only if `emailVisibility` says so, or to itself, to a manager or a superuser.

Pure. Not here: reading rows (`pando.records.listing`), finding out who manages a record and what is expanded
(`pando.records.expanding`), leaving out keys (`pando.records.projection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pando.records.engine import Value
from pando.records.fields import FieldValue, casting, ops
from pando.records.fields.ops import AnyOps
from pando.records.model import SUPERUSERS, Collection, Field

COLUMN_SETS_MAX: Final = 64
"""Different lists of columns that a collection remembers how to read; rows are read with one or two."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `values` has those fields that were read, in canonical form (DESIGN.md, Contracts).

    `expand` is what stands beside it; None if nothing was asked for that could be followed.
    """

    collection: Collection
    values: Mapping[str, FieldValue]
    expand: Mapping[str, Record | Sequence[Record]] | None = None

    @property
    def id(self) -> str:
        """The record's id."""
        return self.text("id")

    def get(self, name: str) -> FieldValue:
        """Give a field's value; its zero value if it was not read, None if there is no such field."""
        if name in self.values:
            return self.values[name]
        found = self.collection.field(name)
        zero: FieldValue = ops(found).zero if found else None
        return zero

    def text(self, name: str) -> str:
        """Give a field's text, "" if it is none."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """Give a field's texts as a list, whether it holds one or several."""
        value = self.get(name)
        if isinstance(value, str):
            return [value] if value else []
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []

    def flag(self, name: str) -> bool:
        """Tell whether a field is true."""
        return self.get(name) is True

    def with_expand(self, expand: Mapping[str, Record | Sequence[Record]]) -> Record:
        """Give the same record with other records at its side."""
        return replace(self, expand=expand)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `own` and `managed` name records by their collection's id and their own."""

    is_superuser: bool = False
    own: tuple[str, str] | None = None
    managed: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, auth: Record | None, managed: Iterable[Record] = ()) -> Viewer:
        """Make the viewer of the record that is signed in, and the records that it manages."""
        if auth is None:
            return cls(managed=frozenset(_key(each) for each in managed))
        is_superuser = auth.collection.name == SUPERUSERS
        return cls(is_superuser, _key(auth), frozenset(_key(each) for each in managed))

    def sees_email_of(self, record: Record) -> bool:
        """Tell whether the address of an auth record is shown."""
        if self.is_superuser or record.flag("emailVisibility"):
            return True
        key = _key(record)
        return key == self.own or key in self.managed


GUEST: Final = Viewer()
SUPERUSER: Final = Viewer(is_superuser=True)


def from_row(collection: Collection, columns: Sequence[str], row: Sequence[Value]) -> Record:
    """Make a record of a row; columns that are no fields are left out."""
    return Record(collection, _plan(collection).reader(tuple(columns)).read(row))


def from_rows(collection: Collection, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> list[Record]:
    """Make records of rows with the same columns."""
    read = _plan(collection).reader(tuple(columns)).read
    return [Record(collection, read(row)) for row in rows]


def to_row(record: Record) -> dict[str, Value]:
    """Give what the columns hold for a record's values, by name."""
    known = record.collection.by_name
    return {name: ops(known[name]).to_column(value) for name, value in record.values.items() if name in known}


def record_json(record: Record, viewer: Viewer) -> dict[str, object]:
    """Give the JSON of a record and what is expanded in it; keys are sorted."""
    plan = _plan(record.collection)
    values = record.values
    found: dict[str, object] = {}
    for name, to_json in plan.for_superusers if viewer.is_superuser else plan.for_others:
        if to_json is None:
            if name in values:
                found[name] = values[name]
        elif (made := to_json(record, viewer)) is not _ABSENT:
            found[name] = made
    return found


# -- what is worked out once per collection ---------------------------------------------------------------------------

_Member = Callable[[Record, Viewer], object]
_ABSENT: Final = object()


class _Plan:
    """How rows of a collection are read and its records shown."""

    def __init__(self, collection: Collection) -> None:
        self._fields = collection.by_name
        self._readers: dict[tuple[str, ...], _Reader] = {}
        shown = [each for each in collection.fields if not _is_secret(collection, each)]
        members = {each.name: _member(ops(each), each.name) for each in shown}
        members["collectionId"] = lambda record, _: record.collection.id
        members["collectionName"] = lambda record, _: record.collection.name
        members["expand"] = _expand_json
        hidden = {each.name for each in shown if each.hidden}
        self.for_superusers = sorted(members.items(), key=lambda item: item[0])
        if collection.is_auth and "email" in members:
            members["email"] = _email_json
        self.for_others = sorted((item for item in members.items() if item[0] not in hidden), key=lambda item: item[0])

    def reader(self, columns: tuple[str, ...]) -> _Reader:
        """Say how rows with these columns are read."""
        found = self._readers.get(columns)
        if found is None:
            if len(self._readers) >= COLUMN_SETS_MAX:
                self._readers.clear()
            found = self._readers[columns] = _Reader(self._fields, columns)
        return found


class _Reader:
    """Reads rows of one list of columns. Most are text that is taken as it stands, so this is not done one by one."""

    def __init__(self, fields: Mapping[str, Field], columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._unknown = [name for name in columns if name not in fields]
        known = {name: ops(fields[name]) for name in columns if name in fields}
        self._texts = [name for name, its in known.items() if its.is_text]
        self._others = [(name, its.from_column) for name, its in known.items() if not its.is_text]

    def read(self, row: Sequence[Value]) -> dict[str, Any]:
        """Give values by field name."""
        values: dict[str, Any] = dict(zip(self._columns, row, strict=True))
        for name in self._unknown:
            del values[name]
        for name in self._texts:
            if type(values[name]) is not str:
                values[name] = casting.to_text(values[name])
        for name, read in self._others:
            values[name] = read(values[name])
        return values


def _plan(collection: Collection) -> _Plan:
    # It is kept on the collection, like its cached properties: to hash a collection costs more than to read a row.
    found = collection.__dict__.get("_record_plan")
    if found is None:
        found = collection.__dict__["_record_plan"] = _Plan(collection)
    return found


def _key(record: Record) -> tuple[str, str]:
    return record.collection.id, record.id


def _is_secret(collection: Collection, each: Field) -> bool:
    return collection.is_auth and each.name in ("password", "tokenKey")


def _member(its: AnyOps, name: str) -> _Member | None:
    """Say how one field is shown, None if by its value."""
    if its.is_json_plain:
        return None

    def show(record: Record, _: Viewer) -> object:
        return its.to_json(record.values[name]) if name in record.values else _ABSENT

    return show


def _email_json(record: Record, viewer: Viewer) -> object:
    return record.values.get("email", _ABSENT) if viewer.sees_email_of(record) else _ABSENT


def _expand_json(record: Record, viewer: Viewer) -> object:
    if record.expand is None:
        return _ABSENT
    return {
        name: record_json(each, viewer) if isinstance(each, Record) else [record_json(one, viewer) for one in each]
        for name, each in sorted(record.expand.items())
    }
