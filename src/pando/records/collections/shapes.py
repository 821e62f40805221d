"""Loose JSON values into the structs of `pando.records.model`, as PocketBase reads them.

A null leaves what was there (but for rules, where it means "superusers only"), unknown keys are ignored, objects are
merged key by key, and lists are replaced. What has the wrong JSON type is a `BadShape`; the callers say what that means
for them: a 400 for a request, corruption for a row. Pure. Not here: where the values come from
(`pando.records.collections.rows`, `.wire`), and whether they make sense (`.checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar, get_args

import msgspec

from pando.records import model

NULL_MEANS_SOMETHING: Final = frozenset({"authRule", "manageRule"})
"""Keys whose null is a value of its own."""
NULL_MEANS_NONE_OF_THEM: Final = frozenset({"identityFields", "providers"})
"""Lists that are written as null when they are empty."""
KEPT_AS_IT_IS: Final = frozenset({"providers"})
"""Keys whose values are handed on untouched: nulls of OAuth2 providers are three-valued switches."""

FIELD_TYPES: Final = frozenset(str(each.__struct_config__.tag) for each in get_args(model.Field))
"""The names of all field types."""

_DEPTH_MAX: Final = 32
"""Nesting of a definition; far more than any has."""
_WHOLE_MAX: Final = 2**53
"""Up to here a float that is whole is the same number as an int."""
_INT_MAX: Final = 2**63 - 1

_FIELD: Final[msgspec.json.Decoder[model.Field]] = msgspec.json.Decoder(model.Field)
_AUTH: Final = msgspec.json.Decoder(model.AuthOptions)
_VIEW: Final = msgspec.json.Decoder(model.ViewOptions)
_Struct = TypeVar("_Struct")


class BadShape(Exception):
    """A JSON value is not of the type that its place asks for."""


def cleaned(value: object, *, depth: int = 0) -> object:
    """Take out nulls that mean "as before", turn whole floats into ints; raise BadShape for what no struct takes."""
    if depth > _DEPTH_MAX:
        raise BadShape("nested too deeply")
    if isinstance(value, Mapping):
        return {
            _text(key): _cleaned_at(key, each, depth)
            for key, each in value.items()
            if each is not None or key in NULL_MEANS_SOMETHING or key in NULL_MEANS_NONE_OF_THEM
        }
    if isinstance(value, list | tuple):
        return [cleaned(each, depth=depth + 1) for each in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and abs(value) > _INT_MAX:
        raise BadShape("a number is too large")
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_MAX:
        return int(value)
    return value


def _cleaned_at(key: str, value: object, depth: int) -> object:
    if value is None:
        return [] if key in NULL_MEANS_NONE_OF_THEM else None
    return value if key in KEPT_AS_IT_IS else cleaned(value, depth=depth + 1)


def merged(base: Mapping[str, object], change: Mapping[str, object]) -> dict[str, object]:
    """Lay `change` over `base`: objects key by key, all else replaced."""
    result = dict(base)
    for key, value in change.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def field(value: object) -> model.Field:
    """Read a field; raise BadShape, also for a type that there is not."""
    if not isinstance(value, Mapping):
        raise BadShape("a field must be an object")
    if str(value.get("type")) not in FIELD_TYPES:
        raise BadShape("missing or unknown field type")
    return _convert(cleaned(value), _FIELD)


def auth_options(value: object) -> model.AuthOptions:
    """Read the keys that only auth collections have; raise BadShape."""
    if not isinstance(value, Mapping):
        raise BadShape("options must be an object")
    return _convert(cleaned(value), _AUTH)


def view_options(value: object) -> model.ViewOptions:
    """Read the keys that only view collections have; raise BadShape."""
    if not isinstance(value, Mapping):
        raise BadShape("options must be an object")
    return _convert(cleaned(value), _VIEW)


def field_value(each: model.Field) -> dict[str, object]:
    """Give a field as plain values, keys sorted, whole numbers without a fraction."""
    plain: dict[str, object] = msgspec.to_builtins(each, order="sorted")
    if isinstance(each, model.NumberField):
        plain |= {key: cleaned(plain[key]) for key in ("max", "min")}
    return plain


def options_value(options: model.AuthOptions) -> dict[str, object]:
    """Give the keys that only auth collections have as plain values, in their order and with their secrets."""
    plain: dict[str, object] = msgspec.json.decode(msgspec.json.encode(options))
    return plain


def _convert(value: object, decoder: msgspec.json.Decoder[_Struct]) -> _Struct:
    """Go through bytes: `msgspec.Raw` is made by decoding only."""
    try:
        return decoder.decode(msgspec.json.encode(value))
    except msgspec.ValidationError as error:
        raise BadShape(str(error)) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadShape("not a JSON value") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadShape("keys must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadShape("text that is not Unicode") from None
    return value
