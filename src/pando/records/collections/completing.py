"""What goes without saying in a definition: ids, system fields and their flags, secrets, indexes of auth collections.

Done to each definition before it is checked, as PocketBase does: a body that leaves out `id` or the e-mail field of an
auth collection does not mean to remove it. Index statements follow their table and columns when these are renamed.
Pure. Not here: reading the body (`pando.records.collections.bodies`), the fields of views (`.views`), checks
(`.checks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random  # noqa: TID251 - only the type; the generator is passed in
from typing import Final

from msgspec.structs import replace as replaced

from pando.records import model
from pando.records.collections import defaults, indexes
from pando.records.collections.defaults import EMAIL, EMAIL_VISIBILITY, ID, ID_PATTERN, PASSWORD, TOKEN_KEY, VERIFIED
from pando.records.fields import dates
from pando.records.model import AuthOptions, Collection, CollectionType, Field, MappedFields, Schema

_FLAGS: Final[dict[str, dict[str, object]]] = {
    ID: {"system": True, "required": True, "primary_key": True, "hidden": False},
    PASSWORD: {"system": True, "hidden": True, "required": True},
    TOKEN_KEY: {"system": True, "hidden": True, "required": True},
    EMAIL: {"system": True},
    EMAIL_VISIBILITY: {"system": True},
    VERIFIED: {"system": True},
}
"""What holds for system fields whatever a body says."""


def complete(draft: Collection, old: Collection | None, schema: Schema, random: Random, now: str) -> Collection:
    """Fill in what goes without saying; `old` is the definition so far, `now` becomes `updated`."""
    taken = {each.id for each in schema.collections if old is None or each.id != old.id}
    own_id = draft.id or (old.id if old else defaults.collection_id(draft.type, draft.name, taken))
    fields = with_ids(_with_dates(with_system_fields(draft.fields, draft.type, old)))
    named = replace(draft, id=own_id, fields=fields, created=old.created if old else now, updated=now)
    auth = _auth(draft.auth, old, fields, random) if draft.auth is not None else None
    return replace(named, auth=auth, indexes=_indexes(named, old))


# -- fields -----------------------------------------------------------------------------------------------------------


def with_ids(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Give an id to each field that has none."""
    found = list(fields)
    taken = {each.id for each in found if each.id}
    for place, each in enumerate(found):
        found[place] = defaults.with_id(each, taken)
        taken.add(found[place].id)
    return tuple(found)


def with_system_fields(fields: Sequence[Field], kind: CollectionType, old: Collection | None) -> tuple[Field, ...]:
    """Add the system fields that are missing, each behind the one that comes before it, and set the flags of all."""
    result = list(fields)
    place = 0
    for default in defaults.system_fields(kind):
        at = next((index for index, each in enumerate(result) if each.name == default.name), None)
        if at is None:
            at = place
            result.insert(at, _so_far(default, old, result))
        result[at] = _flagged(result[at], default)
        place = at + 1
    return tuple(result)


def _so_far(default: Field, old: Collection | None, others: Sequence[Field]) -> Field:
    """Give the old field of that name and type, or the default; with an id of its own."""
    before = old.field(default.name) if old else None
    found = before if before is not None and before.type == default.type else default
    return replaced(found, id="") if any(each.id == found.id for each in others) else found


def _flagged(field: Field, default: Field) -> Field:
    if field.type != default.type:
        return field
    found = replaced(field, **_FLAGS[field.name])
    if isinstance(found, model.TextField) and found.primary_key and not found.pattern:
        return replaced(found, pattern=ID_PATTERN)
    return found


def _with_dates(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Write the bounds of date fields as dates are written; what is none becomes none, as with values."""
    return tuple(_with_date_bounds(each) if isinstance(each, model.DateField) else each for each in fields)


def _with_date_bounds(field: model.DateField) -> model.DateField:
    return replaced(field, min=dates.parse(field.min), max=dates.parse(field.max))


def renames(old: Collection, fields: Iterable[Field]) -> dict[str, str]:
    """Map old column names to new ones, but for names that another field has taken over."""
    found = list(fields)
    by_id = {(each.id, each.type): each.name for each in found}
    present = {each.name.lower() for each in found}
    return {
        each.name: name
        for each in old.fields
        if (name := by_id.get((each.id, each.type), each.name)) != each.name and each.name.lower() not in present
    }


# -- auth options and indexes -----------------------------------------------------------------------------------------


def _auth(options: AuthOptions, old: Collection | None, fields: Sequence[Field], random: Random) -> AuthOptions:
    found = defaults.with_secrets(options, random)
    if old is not None and old.auth is not None and old.auth.auth_rule != found.auth_rule:
        found = defaults.with_new_auth_secret(found, random)
    return replaced(found, oauth2=replaced(found.oauth2, mapped_fields=_mapped(found.oauth2.mapped_fields, fields)))


def _mapped(mapped: MappedFields, fields: Sequence[Field]) -> MappedFields:
    """Leave out fields that there are not."""
    names = {each.name for each in fields}
    return MappedFields(
        id=mapped.id if mapped.id in names else "",
        name=mapped.name if mapped.name in names else "",
        username=mapped.username if mapped.username in names else "",
        avatar_url=mapped.avatar_url if mapped.avatar_url in names else "",
    )


def _indexes(collection: Collection, old: Collection | None) -> tuple[str, ...]:
    renamed = renames(old, collection.fields) if old else {}
    found = tuple(indexes.recolumned(indexes.retabled(each, collection.name), renamed) for each in collection.indexes)
    if not collection.is_auth:
        return found
    needed = zip((TOKEN_KEY, EMAIL), defaults.auth_indexes(collection.id, collection.name), strict=True)
    return found + tuple(each for column, each in needed if indexes.unique_on(found, column) is None)
