"""Bodies that create or change a collection, laid over what is there.

What a body does not say stays as it was; objects inside are merged key by key. `fields` is a whole list in which a
field is recognised by its id, or without one by name and type; what a field does not say there has its zero value.
`oauth2.providers` is a whole list too, but each entry keeps what it does not say of the provider that it names. What
has the wrong JSON type is refused with 400 as a whole; a type of collection or field that there is not, and a list that
is too long, with a validation code. Pure. Not here: what goes without saying (`pando.records.collections.completing`),
whether the result makes sense (`.checks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.records.collections import defaults, providers, shapes
from pando.records.collections.shapes import BadShape
from pando.records.model import AuthOptions, Collection, CollectionType, Field
from pando.records.problems import ApiError, Problem, ValidationFailed, bad_request

Body = Mapping[str, object]
"""A JSON object as it was decoded."""

FIELDS_MAX: Final = 1000
"""Fields of one collection: half of the columns that SQLite allows."""
INDEXES_MAX: Final = 256
"""Indexes of one collection."""
PROVIDERS_MAX: Final = 64
"""OAuth2 providers of one collection."""

_RULES: Final = ("list", "view", "create", "update", "delete")
_NO_SUCH_TYPE: Final = Problem("validation_in_invalid", "Must be a valid value.")
_TYPE_CHANGE: Final = Problem("validation_collection_type_change", "The type of a collection cannot be changed.")
_TOO_LONG: Final = "validation_length_too_long"
_AUTH_KEYS: Final = frozenset(shapes.options_value(AuthOptions()))


def read_new(body: object, random: Random) -> Collection:
    """Read a body that makes a collection; its type, base if it says none, gives the rest of the defaults."""
    told = _object(body)
    kind = _kind(told) or CollectionType.BASE
    blank = replace(defaults.blank(kind, "", random), id="", indexes=())
    return _laid_over(blank, told)


def read_change(body: object, existing: Collection) -> Collection:
    """Read a body that changes a collection."""
    told = _object(body)
    kind = _kind(told)
    if kind is not None and kind is not existing.type:
        raise ValidationFailed({"type": _TYPE_CHANGE})
    return _laid_over(existing, told)


def _laid_over(base: Collection, told: Body) -> Collection:
    try:
        return _read(base, told)
    except BadShape as error:
        raise malformed() from error


def _read(base: Collection, told: Body) -> Collection:
    rules = replace(base.rules, **{name: _rule(told, key) for name in _RULES if (key := f"{name}Rule") in told})
    return replace(
        base,
        id=_text(told, "id", base.id),
        name=_text(told, "name", base.name),
        system=_flag(told, "system", base.system),
        fields=_fields(told, base.fields),
        indexes=_indexes(told, base.indexes),
        rules=rules,
        auth=_auth(told, base.auth) if base.auth is not None else None,
        view_query=_text(told, "viewQuery", base.view_query) if base.is_view else "",
    )


def malformed() -> ApiError:
    """Make the refusal of a body whose values have wrong types."""
    return bad_request("The submitted data cannot be read: a value has the wrong type.")


# -- parts ------------------------------------------------------------------------------------------------------------


def _object(body: object) -> Body:
    if not isinstance(body, Mapping) or not all(isinstance(key, str) for key in body):
        raise malformed()
    return body


def _kind(told: Body) -> CollectionType | None:
    value = told.get("type")
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise malformed()
    try:
        return CollectionType(value)
    except ValueError:
        raise ValidationFailed({"type": _NO_SUCH_TYPE}) from None


def _text(told: Body, key: str, before: str) -> str:
    value = shapes.cleaned(told.get(key))
    if value is None:
        return before
    if not isinstance(value, str):
        raise BadShape(f"{key} must be text")
    return value


def _rule(told: Body, key: str) -> str | None:
    return None if told[key] is None else _text(told, key, "")


def _flag(told: Body, key: str, before: bool) -> bool:
    value = told.get(key)
    if value is None:
        return before
    if not isinstance(value, bool):
        raise BadShape(f"{key} must be true or false")
    return value


def _items(value: object, key: str, most: int) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise BadShape(f"{key} must be a list")
    if len(value) > most:
        raise ValidationFailed({key: Problem(_TOO_LONG, f"There can be {most} at most.", {"max": most})})
    return value


def _indexes(told: Body, before: tuple[str, ...]) -> tuple[str, ...]:
    if "indexes" not in told:
        return before
    found = shapes.cleaned(_items([] if told["indexes"] is None else told["indexes"], "indexes", INDEXES_MAX))
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise BadShape("indexes must be texts")
    return tuple(found)


def _fields(told: Body, before: tuple[Field, ...]) -> tuple[Field, ...]:
    if told.get("fields") is None:
        return before
    return read_fields(_items(told["fields"], "fields", FIELDS_MAX), before)


def read_fields(values: Sequence[object], before: Sequence[Field]) -> tuple[Field, ...]:
    """Read a list of fields; those without an id take that of the field so far with their name and type.

    Of fields with the same id the last counts, in the place of the first. Raise BadShape.
    """
    read = _unlike([shapes.field(each) for each in values])
    claimed = {each.id for each in read}
    known = {(each.name, each.type): each.id for each in before if each.id not in claimed}
    return tuple(each if each.id else replaced(each, id=known.pop((each.name, each.type), "")) for each in read)


def _unlike(fields: Sequence[Field]) -> list[Field]:
    found: dict[str, Field] = {}
    for place, each in enumerate(fields):
        found[each.id or f"#{place}"] = each
    return list(found.values())


def _auth(told: Body, before: AuthOptions) -> AuthOptions:
    said = shapes.cleaned({key: value for key, value in told.items() if key in _AUTH_KEYS})
    if not isinstance(said, dict):
        raise BadShape("options must be an object")
    kept = _with_kept_secrets(said)
    listed = _told_providers(kept, before)
    options = shapes.auth_options(shapes.merged(shapes.options_value(before), kept))
    return replaced(options, oauth2=replaced(options.oauth2, providers=listed)) if listed is not None else options


def _with_kept_secrets(said: dict[str, object]) -> dict[str, object]:
    """An empty secret is one that was not sent."""
    return {
        key: {name: each for name, each in value.items() if name != "secret" or each != ""}
        if isinstance(value, dict) and key.endswith("Token")
        else value
        for key, value in said.items()
    }


def _told_providers(said: dict[str, object], before: AuthOptions) -> tuple[msgspec.Raw, ...] | None:
    oauth2 = said.get("oauth2")
    if not isinstance(oauth2, dict) or "providers" not in oauth2:
        return None
    values = _items(oauth2["providers"], "providers", PROVIDERS_MAX)
    return providers.merge(values, before.oauth2.providers)
