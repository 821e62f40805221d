"""A row of `_collections` and the `Collection` that it stands for, both ways.

`fields` and `indexes` are JSON lists, `options` is a JSON object with what only auth or view collections have, secrets
included. A key that is missing in `options` has the zero value, not the default of a new collection: what a newer or
older server left out must never switch a way of signing in on. Keys that we do not know are carried over when a row is
written again. Pure. Not here: the statements (`pando.records.collections.ddl`), the JSON that callers see (`.wire`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pando.errors import CorruptionError
from pando.records import model
from pando.records.collections import providers, shapes
from pando.records.engine import Row, Value
from pando.records.model import AuthOptions, Collection, CollectionType, Rules, ViewOptions

COLUMNS: Final = (
    *("id", "system", "type", "name", "fields", "indexes"),
    *("listRule", "viewRule", "createRule", "updateRule", "deleteRule"),
    *("options", "created", "updated"),
)
"""The columns of `_collections` in the order of the rows that this module takes and gives."""
SELECT: Final = f"SELECT {', '.join(f'`{name}`' for name in COLUMNS)} FROM `_collections` ORDER BY `rowid`"
"""Reads all rows."""

_OPTIONS: Final = COLUMNS.index("options")
_FIELDS: Final = COLUMNS.index("fields")
_NO_TOKEN: Final = model.TokenOptions()
_NOTHING: Final = AuthOptions(
    auth_rule=None,
    auth_alert=model.AuthAlert(enabled=False),
    password_auth=model.PasswordAuth(enabled=False, identity_fields=()),
    mfa=model.MfaOptions(duration=0),
    otp=model.OtpOptions(duration=0, length=0),
    auth_token=_NO_TOKEN,
    password_reset_token=_NO_TOKEN,
    email_change_token=_NO_TOKEN,
    verification_token=_NO_TOKEN,
    file_token=_NO_TOKEN,
)
"""What an auth collection is whose options say nothing."""


def from_row(row: Sequence[Value]) -> Collection:
    """Read a row, whose values are in the order of `COLUMNS`; raise CorruptionError if it cannot be one."""
    if len(row) != len(COLUMNS):
        raise CorruptionError(f"a row of _collections has {len(row)} values, not {len(COLUMNS)}")
    named = dict(zip(COLUMNS, row, strict=True))
    try:
        return _from_named(named)
    except (shapes.BadShape, ValueError) as error:
        raise CorruptionError(f"the row of collection {named['name']!r} cannot be read: {error}") from error


def _from_named(named: Mapping[str, Value]) -> Collection:
    kind = CollectionType(_str(named, "type"))
    options = _json(named, "options")
    rules = Rules(**{name: _rule(named, f"{name}Rule") for name in ("list", "view", "create", "update", "delete")})
    return Collection(
        id=_str(named, "id"),
        name=_str(named, "name"),
        type=kind,
        system=bool(named["system"]),
        fields=tuple(shapes.field(each) for each in _list(named, "fields")),
        indexes=tuple(str(each) for each in _list(named, "indexes")),
        rules=rules,
        auth=_auth(options) if kind is CollectionType.AUTH else None,
        view_query=shapes.view_options(options).view_query if kind is CollectionType.VIEW else "",
        created=_str(named, "created"),
        updated=_str(named, "updated"),
    )


def to_row(collection: Collection, previous: Sequence[Value] | None = None) -> Row:
    """Write a row in the order of `COLUMNS`; `previous` is the row so far, whose unknown keys are kept."""
    fields, options = _fields_text(collection.fields), _options_text(collection)
    if previous is not None:
        fields = _with_unknown_of_fields(fields, previous[_FIELDS])
        options = _with_unknown_of_options(collection, options, previous[_OPTIONS])
    rules = collection.rules
    return (
        *(collection.id, int(collection.system), str(collection.type), collection.name),
        *(fields, json.dumps(list(collection.indexes), ensure_ascii=False, separators=(",", ":"))),
        *(rules.list, rules.view, rules.create, rules.update, rules.delete),
        *(options, collection.created, collection.updated),
    )


def _auth(options: object) -> AuthOptions:
    if not isinstance(options, dict):
        raise shapes.BadShape("options must be an object")
    found = shapes.auth_options(shapes.merged(shapes.options_value(_NOTHING), _without_nulls(options)))
    providers.read(found.oauth2.providers)
    return found


def _without_nulls(options: dict[str, object]) -> dict[str, object]:
    found = shapes.cleaned(options)
    return found if isinstance(found, dict) else {}


def _fields_text(fields: Sequence[model.Field]) -> str:
    return msgspec.json.encode([shapes.field_value(each) for each in fields]).decode()


def _options_text(collection: Collection) -> str:
    if collection.auth is not None:
        return msgspec.json.encode(collection.auth).decode()
    if collection.is_view:
        return msgspec.json.encode(ViewOptions(view_query=collection.view_query)).decode()
    return "{}"


# -- keys that we do not know -----------------------------------------------------------------------------------------


def _with_unknown_of_fields(text: str, before: Value) -> str:
    """Lay unknown keys of fields that stay (by id, same type) into their new text."""
    parsed = _parsed(before)
    old = {each.get("id"): each for each in parsed if isinstance(each, dict)} if isinstance(parsed, list) else {}
    new = json.loads(text)
    for each in new:
        if (known := old.get(each["id"])) is not None and known.get("type") == each["type"]:
            each |= {key: value for key, value in known.items() if key not in each}
    return json.dumps([dict(sorted(each.items())) for each in new], ensure_ascii=False, separators=(",", ":"))


def _with_unknown_of_options(collection: Collection, text: str, before: Value) -> str:
    """Lay unknown keys of the old options, at any depth of objects, into the new text."""
    old = _parsed(before)
    if collection.type is CollectionType.BASE or not isinstance(old, dict):
        return text
    return json.dumps(_filled_up(json.loads(text), old), ensure_ascii=False, separators=(",", ":"))


def _filled_up(new: dict[str, object], old: dict[str, object]) -> dict[str, object]:
    result = dict(new)
    for key, value in old.items():
        if key not in result:
            result[key] = value
        elif isinstance(inner := result[key], dict) and isinstance(value, dict):
            result[key] = _filled_up(inner, value)
    return result


def _parsed(text: Value) -> object:
    """Read JSON leniently: what cannot be read has no unknown keys to keep."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


# -- values of a row --------------------------------------------------------------------------------------------------


def _str(named: Mapping[str, Value], column: str) -> str:
    value = named[column]
    if not isinstance(value, str):
        raise shapes.BadShape(f"{column} must be text")
    return value


def _rule(named: Mapping[str, Value], column: str) -> str | None:
    return None if named[column] is None else _str(named, column)


def _json(named: Mapping[str, Value], column: str) -> object:
    text = _str(named, column)
    return json.loads(text) if text else {}


def _list(named: Mapping[str, Value], column: str) -> list[object]:
    text = _str(named, column)
    value = json.loads(text) if text else []
    if value is None:
        return []
    if not isinstance(value, list):
        raise shapes.BadShape(f"{column} must be a list")
    return value
