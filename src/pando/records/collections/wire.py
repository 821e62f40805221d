"""The JSON of collections as callers see it.

Keys come in PocketBase's order (fields have theirs sorted); secrets of tokens and of OAuth2 providers never leave.
Pure. Not here: reading what callers send (`pando.records.collections.bodies`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from pando.errors import invariant
from pando.records.collections import providers, shapes
from pando.records.model import AuthOptions, Collection

_TOKEN_KEYS: Final = ("authToken", "passwordResetToken", "emailChangeToken", "verificationToken", "fileToken")


def value_of(collection: Collection) -> dict[str, object]:
    """Give a collection as plain values in the order of the wire."""
    rules = collection.rules
    value: dict[str, object] = {
        "id": collection.id,
        "listRule": rules.list,
        "viewRule": rules.view,
        "createRule": rules.create,
        "updateRule": rules.update,
        "deleteRule": rules.delete,
        "name": collection.name,
        "type": str(collection.type),
        "fields": [shapes.field_value(each) for each in collection.fields],
        "indexes": list(collection.indexes),
        "created": collection.created,
        "updated": collection.updated,
        "system": collection.system,
    }
    if collection.auth is not None:
        value |= _auth_value(collection.auth)
    if collection.is_view:
        value["viewQuery"] = collection.view_query
    return value


def encode(collection: Collection) -> bytes:
    """Give a collection's JSON."""
    return msgspec.json.encode(value_of(collection))


def _auth_value(options: AuthOptions) -> dict[str, object]:
    value = shapes.options_value(options)
    for key in _TOKEN_KEYS:
        token = value[key]
        invariant(isinstance(token, dict), "token options are an object")
        value[key] = {"duration": token["duration"]}  # type: ignore[index]
    oauth2 = value["oauth2"]
    invariant(isinstance(oauth2, dict), "oauth2 is an object")
    shown = [providers.shown(each) for each in providers.read(options.oauth2.providers)]
    value["oauth2"] = {**oauth2, "providers": shown}  # type: ignore[dict-item]
    return value
