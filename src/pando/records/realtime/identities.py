"""Who is behind an event stream, and what a change of the feed means for that. Pure.

An identity is what the subscription request's token stood for. It ends when the token would no longer be accepted: the
record is deleted or has another token key, its collection is deleted or signs with another secret. Not here: tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from pando.records.model import SUPERUSERS_ID, Collection
from pando.records.realtime.changes import Change, Operation, Values

COLLECTIONS_TABLE: Final = "_collections"
IdentityKey = tuple[str, str]
"""Ids of collection and record."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A record that has signed in, with its columns as they were when it was last heard of."""

    collection_id: str
    record_id: str
    token_key: str
    values: Values = field(hash=False)

    @property
    def key(self) -> IdentityKey:
        """Tell which record it is."""
        return self.collection_id, self.record_id

    @property
    def is_superuser(self) -> bool:
        """Whether no rule binds it."""
        return self.collection_id == SUPERUSERS_ID


class When(Enum):
    """When an effect takes place: before the change is judged, or after (a deleted record hears of its deletion)."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class RecordEffect:
    """The identity of one record is `values` from now on; None, or another token key: it is none."""

    key: IdentityKey
    values: Values | None
    when: When

    def applied_to(self, identity: Identity) -> Identity | None:
        """Give what becomes of an identity of this record."""
        values = self.values
        if values is None or values.get("tokenKey") != identity.token_key:
            return None
        return Identity(identity.collection_id, identity.record_id, identity.token_key, values)


@dataclass(frozen=True, slots=True)
class CollectionEffect:
    """No record of a collection is an identity any more."""

    collection_id: str
    when: When = When.BEFORE

    def applied_to(self, _identity: Identity) -> None:
        """Give what becomes of an identity of this collection."""


Effect = RecordEffect | CollectionEffect


class _Secret(msgspec.Struct):
    secret: str = ""


class _AuthOptions(msgspec.Struct):
    auth_token: _Secret = msgspec.field(default_factory=_Secret, name="authToken")


_decode_options = msgspec.json.Decoder(_AuthOptions).decode


def effects_of(change: Change, collection: Collection | None) -> list[Effect]:
    """Tell what a change does to identities. `collection` is the one that the changed table belongs to."""
    if change.table == COLLECTIONS_TABLE:
        return _collection_effects(change)
    if collection is None or not collection.is_auth or change.operation is Operation.INSERT:
        return []
    if change.old is None:  # it cannot be told whose record that was
        return [CollectionEffect(collection.id)]
    key = collection.id, str(change.old.get("id"))
    if change.operation is Operation.DELETE:
        return [RecordEffect(key, None, When.AFTER)]
    new = change.new
    is_same = new is not None and new.get("id") == change.old.get("id")
    return [RecordEffect(key, new if is_same else None, When.BEFORE)]


def _collection_effects(change: Change) -> list[Effect]:
    if change.operation is Operation.INSERT or change.old is None:
        return []
    collection_id = str(change.old.get("id"))
    if change.operation is Operation.UPDATE and change.new is not None and _secret(change.old) == _secret(change.new):
        return []
    return [CollectionEffect(collection_id)]


def _secret(values: Values) -> object:
    """Give the secret that a collection signs with; options that cannot be read are their own secret."""
    options = values.get("options")
    if not isinstance(options, str | bytes):
        return options
    try:
        return _decode_options(options).auth_token.secret
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return options
