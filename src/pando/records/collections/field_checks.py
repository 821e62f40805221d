"""Whether the fields of a definition can be: as a list, against the fields so far, and each by itself.

The first of these that finds anything wrong ends the checks, so that one mistake is told once; the checks of single
fields tell of all fields. Problems of one field stand under its position. Pure. Not here: options of single types
(`pando.records.collections.field_options`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pando.records import model
from pando.records.collections import defaults, field_options
from pando.records.collections.asking import Asked, Found, gathered
from pando.records.model import Collection, CollectionType, Field
from pando.records.problems import REQUIRED, Problem, Problems

NAME_CHARS_MAX: Final = 100
ID_CHARS_MAX: Final = 100
HELP_CHARS_MAX: Final = 300
RESERVED_NAMES: Final = frozenset({"null", "true", "false", "collectionId", "collectionName", "expand"})
"""Names that no field can have, besides `_rowid_` in any case."""
RESERVED_OF_AUTH: Final = frozenset({"passwordConfirm", "oldPassword"})
"""Names that bodies about auth records use for something else."""

_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_ID_TWICE: Final = Problem("validation_duplicated_field_id", "Another field has this id.")
NO_KEY: Final = Problem("validation_missing_primary_key", 'There must be a primary key "id".')
_SYSTEM: Final = Problem("validation_must_be_system", "The field must be a system field.")
_SYSTEM_AND_HIDDEN: Final = Problem("validation_must_be_system_and_hidden", "The field must be a hidden system field.")
_SYSTEM_CHANGED: Final = Problem("validation_system_field_change", "System fields cannot be removed or changed.")
_TYPE_CHANGED: Final = Problem("validation_field_type_change", "The type of a field cannot be changed.")
_RESERVED: Final = Problem("validation_reserved_field_name", "The name is reserved.")
_NOT_ALLOWED: Final = Problem("validation_not_in_invalid", "The name is reserved.")
_NO_WORD: Final = Problem("validation_match_invalid", "Only letters, digits and _ can be used.")
_FOUND_VIA: Final = Problem("validation_found_via", "The name must not hold _via_.")

_AUTH_FIELDS: Final[tuple[tuple[str, type[Field], bool], ...]] = (
    (defaults.PASSWORD, model.PasswordField, True),
    (defaults.TOKEN_KEY, model.TextField, True),
    (defaults.EMAIL, model.EmailField, False),
    (defaults.EMAIL_VISIBILITY, model.BoolField, False),
    (defaults.VERIFIED, model.BoolField, False),
)


def check(new: Collection, old: Collection | None, others: Sequence[Collection], asked: Asked) -> Found:
    """Name what is wrong with the fields."""
    if not new.fields:
        return REQUIRED
    steps: tuple[Callable[[], Found], ...] = (
        lambda: _check_twice(new),
        lambda: _check_needed(new),
        lambda: _check_system(new, old),
        lambda: _check_types(new, old),
        lambda: _check_reserved(new),
        lambda: gathered({str(place): each for place, each in _check_each(new, old, others, asked)}),
    )
    return next((found for step in steps if (found := step())), None)


# -- as a list --------------------------------------------------------------------------------------------------------


def _check_twice(new: Collection) -> Found:
    ids: set[str] = set()
    names: set[str] = set()
    for place, each in enumerate(new.fields):
        if each.id and each.id in ids:
            return {str(place): {"id": _ID_TWICE}}
        if each.name and each.name.lower() in names:
            return {str(place): {"name": _name_twice(each.name)}}
        ids.add(each.id)
        names.add(each.name.lower())
    return None


def _name_twice(name: str) -> Problem:
    return Problem("validation_duplicated_field_name", f"Another field is called {name}.", {"fieldName": name})


def _check_needed(new: Collection) -> Found:
    if new.is_view and not new.fields:
        return REQUIRED
    key = new.field(defaults.ID)
    if new.type is not CollectionType.VIEW and not (isinstance(key, model.TextField) and key.primary_key):
        return NO_KEY
    if new.type is CollectionType.VIEW and key is None:
        return NO_KEY
    return _check_auth_fields(new) if new.is_auth else None


def _check_auth_fields(new: Collection) -> Found:
    for name, kind, hidden in _AUTH_FIELDS:
        found = new.field(name)
        if not isinstance(found, kind):
            return Problem(f"validation_missing_{name}_field", f'There must be a system field "{name}".')
        if not found.system or (hidden and not found.hidden):
            return {name: _SYSTEM_AND_HIDDEN if hidden else _SYSTEM}
    return None


def _check_system(new: Collection, old: Collection | None) -> Found:
    if old is None or new.is_view:
        return None
    by_id = {each.id: each for each in new.fields}
    for before in old.fields:
        after = by_id.get(before.id)
        if before.system and (after is None or (after.name, after.system) != (before.name, True)):
            return _SYSTEM_CHANGED
    return None


def _check_types(new: Collection, old: Collection | None) -> Found:
    if new.is_view:
        return None
    before = old.fields if old is not None else defaults.system_fields(new.type)
    types = {each.id: each.type for each in before}
    return gathered(
        {
            str(place): _TYPE_CHANGED
            for place, each in enumerate(new.fields)
            if types.get(each.id, each.type) != each.type
        }
    )


def _check_reserved(new: Collection) -> Found:
    if not new.is_auth:
        return None
    return gathered(
        {str(place): {"name": _RESERVED} for place, each in enumerate(new.fields) if each.name in RESERVED_OF_AUTH}
    )


# -- one by one -------------------------------------------------------------------------------------------------------


def _check_each(
    new: Collection, old: Collection | None, others: Sequence[Collection], asked: Asked
) -> Iterator[tuple[int, Problems]]:
    around = field_options.Around(new, old, {each.id: each for each in (*others, new)}, asked)
    for place, each in enumerate(new.fields):
        own: dict[str, Found] = {"id": _check_id(each), "name": check_name(each.name)}
        if len(getattr(each, "help", "")) > HELP_CHARS_MAX:
            own["help"] = _out_of_range(HELP_CHARS_MAX)
        yield place, gathered(own | dict(field_options.check(each, around)))


def _check_id(each: Field) -> Found:
    if not each.id:
        return REQUIRED
    return _out_of_range(ID_CHARS_MAX) if len(each.id) > ID_CHARS_MAX else None


def check_name(name: str) -> Found:
    """Tell what is wrong with the name of a field, by itself."""
    if not name:
        return REQUIRED
    if len(name) > NAME_CHARS_MAX:
        return _out_of_range(NAME_CHARS_MAX)
    if not _WORD.fullmatch(name):
        return _NO_WORD
    if name in RESERVED_NAMES or name.lower() == "_rowid_":
        return _NOT_ALLOWED
    return _FOUND_VIA if "_via_" in name.lower() else None


def _out_of_range(most: int) -> Problem:
    params = {"min": 1, "max": most}
    return Problem("validation_length_out_of_range", f"The length must be between 1 and {most}.", params)
