"""What goes without saying in a definition: ids, system fields and their flags, secrets, indexes of auth collections.

Done to each definition before it is checked, as PocketBase does: a body that leaves out `id` or the e-mail field of an
auth collection does not mean to remove it. Index statements follow their table and columns when these are renamed.
Pure. Not here: reading the body (`pando.records.collections.bodies`), the fields of views (`.views`), checks
(`.checks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.records import model
from pando.records.collections import defaults, indexes
from pando.records.collections.defaults import EMAIL, EMAIL_VISIBILITY, ID, ID_PATTERN, PASSWORD, TOKEN_KEY, VERIFIED
from pando.records.fields import dates
from pando.records.model import AuthOptions, Collection, CollectionType, Field, MappedFields, Schema

_FLAGS: Final[dict[str, dict[str, object]]] = {
    ID: {"system": True, "required": True, "primary_key": True, "hidden": False},
    PASSWORD: {"system": True, "hidden": True, "required": True},
    TOKEN_KEY: {"system": True, "hidden": True, "required": True},
    EMAIL: {"system": True, "hidden": False},
    EMAIL_VISIBILITY: {"system": True, "hidden": False},
    VERIFIED: {"system": True, "hidden": False},
}
"""What holds for system fields whatever a body says."""


def complete(draft: Collection, old: Collection | None, schema: Schema, random: Random, now: str) -> Collection:
    """Fill in what goes without saying; `old` is the definition so far, `now` becomes `updated`."""
    taken = {each.id for each in schema.collections if old is None or each.id != old.id}
    own_id = draft.id or (old.id if old else defaults.collection_id(draft.type, draft.name, taken))
    fields = with_ids(_with_dates(with_system_fields(draft.fields, draft.type)))
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


def with_system_fields(fields: Sequence[Field], kind: CollectionType) -> tuple[Field, ...]:
    """Set what holds for system fields, and add those that are missing: the id in front, the others at the end."""
    found = [*fields]
    for default in defaults.system_fields(kind):
        at = next((place for place, each in enumerate(found) if _is_meant(each, default)), None)
        if at is not None:
            found[at] = _flagged(found[at], default)
            continue
        is_taken = any(each.id == default.id for each in found)
        if default.name != ID:
            found.append(replaced(default, id="") if is_taken else default)
        elif not is_taken:
            found.insert(0, default)
    return tuple(found)


def _is_meant(field: Field, default: Field) -> bool:
    return field.name == default.name and (default.name != ID or field.type == default.type)


def _flagged(field: Field, default: Field) -> Field:
    if field.type != default.type:
        return replaced(default, id=field.id or defaults.field_id(field.type, field.name))
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
    table = collection.name or (old.name if old else "")
    found = tuple(indexes.recolumned(indexes.retabled(each, table), renamed) for each in collection.indexes)
    if not collection.is_auth:
        return found
    own_id = defaults.collection_id(collection.type, collection.name) if old is None else collection.id
    needed = zip((TOKEN_KEY, EMAIL), defaults.auth_indexes(own_id, collection.name), strict=True)
    return found + tuple(each for column, each in needed if indexes.unique_on(found, column) is None)
