"""Takes out of changes what even superusers do not get to see: hashes of passwords, token keys, secrets. Pure.

The feed holds whole rows. Of tables that are no collection's (any more), columns with the names of the secret ones of
auth collections go. Not here: hidden fields, which superusers do see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from pando.records.model import Collection, PasswordField
from pando.records.realtime.changes import Change

_OF_SYSTEM: Final = {"_collections": frozenset({"options"}), "_params": frozenset({"value"})}
"""Secrets that tokens are signed with, and those of mail servers and storage."""
_BY_NAME: Final = frozenset({"password", "tokenKey"})
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def redacted(change: Change, collection: Collection | None) -> Change:
    """Give a change without secrets. `collection` is the one of its table, None if there is none."""
    secret = _OF_SYSTEM.get(change.table) or _secrets_of(collection)
    if not secret:
        return change
    return replace(change, old_json=_without(change.old_json, secret), new_json=_without(change.new_json, secret))


def _secrets_of(collection: Collection | None) -> frozenset[str]:
    if collection is None:
        return _BY_NAME
    names = {field.name for field in collection.fields if isinstance(field, PasswordField)}
    return frozenset(names | {"tokenKey"} if collection.is_auth else names)


def _without(text: str | None, names: frozenset[str]) -> str | None:
    """Give a row without some columns; one that cannot be read is not told."""
    if text is None:
        return None
    try:
        values = _decode(text)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    if values.keys().isdisjoint(names):
        return text
    return _encode({name: value for name, value in values.items() if name not in names}).decode()
