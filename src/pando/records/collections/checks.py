"""Whether a definition can be: ids, names, flags and rules; fields, indexes and auth options have modules of their own.

Given are the new definition, completed, the old one if there is one, and all collections so far. Every key that is
wrong is named, each with the first thing that is wrong with it. Codes are PocketBase's. Pure. Not here: filling in
(`pando.records.collections.completing`), what only the database knows, such as whether an expression in an index or
a view's query can be run: who runs the statements turns their failure into `index_refused` or `view_refused`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pando.records.collections import auth_checks, field_checks, index_checks
from pando.records.collections.asking import Asked, Found, first, gathered, refuse
from pando.records.model import Collection, Rules, Schema
from pando.records.problems import REQUIRED, ApiError, Problem, Problems, ValidationFailed, bad_request

ID_CHARS_MAX: Final = 100
NAME_CHARS_MAX: Final = 255
VIA: Final = "_via_"
"""Parts names of back relations, and so cannot be in names."""

_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_NOT_NULL: Final = Problem("validation_nil", "Must be null: views cannot be written to.")
_ID_FIXED: Final = Problem("validation_in_invalid", "The id of a collection cannot be changed.")
_ID_TAKEN: Final = Problem("validation_invalid_or_existing_id", "The id is in use already.")
_FLAG_FIXED: Final = Problem("validation_collection_system_flag_change", "The system flag cannot be changed.")
_NAME_FIXED: Final = Problem("validation_collection_system_name_change", "System collections cannot be renamed.")
_NAME_TAKEN: Final = Problem("validation_collection_name_exists", "A collection of this name is there already.")
_NAME_IS_ID: Final = Problem("validation_collection_name_id_duplicate", "The name is the id of another collection.")
_NAME_RESERVED: Final = Problem("validation_collection_name_invalid", "The name is in use by the database itself.")
_TYPE_FIXED: Final = Problem("validation_collection_type_change", "The type of a collection cannot be changed.")
_RULE_FIXED: Final = Problem("validation_collection_system_rule_change", "Rules of system collections are fixed.")
FOUND_VIA: Final = Problem("validation_found_via", f"The name must not hold {VIA}.")
NO_WORD: Final = Problem("validation_match_invalid", "Only letters, digits and _ can be used.")


def check(new: Collection, old: Collection | None, schema: Schema, asked: Asked) -> None:
    """Check a definition; raise ValidationFailed."""
    refuse(problems(new, old, schema, asked))


def problems(new: Collection, old: Collection | None, schema: Schema, asked: Asked) -> Problems:
    """Name what is wrong with a definition, by key."""
    others = tuple(each for each in schema.collections if old is None or each.id != old.id)
    found: dict[str, Found] = {
        "id": _check_id(new, old, others),
        "type": _TYPE_FIXED if old is not None and old.type is not new.type else None,
        "system": _FLAG_FIXED if old is not None and old.system != new.system else None,
        "name": _check_name(new, old, others, asked),
        "fields": field_checks.check(new, old, others, asked),
        "indexes": index_checks.check(new, old, others, asked),
    }
    found |= {f"{key}Rule": each for key, each in _check_rules(new, old, asked)}
    if new.is_view and not new.view_query.strip():
        found["viewQuery"] = REQUIRED
    elif new.is_view and found["fields"]:
        found["viewQuery"] = Problem("validation_invalid_view_query", "Its columns cannot be fields.")
    if new.auth is not None:
        found |= auth_checks.check(new, new.auth, asked)
        if old is not None and old.system and old.auth is not None:
            found["authRule"] = found["authRule"] or _kept_rule(old.auth.auth_rule, new.auth.auth_rule)
            found["manageRule"] = found["manageRule"] or _kept_rule(old.auth.manage_rule, new.auth.manage_rule)
    return gathered(found) or gathered({"indexes": index_checks.check_columns(new)})


def index_refused(position: int, message: str) -> ValidationFailed:
    """Make the refusal of an index that the database does not take."""
    problem = Problem("validation_invalid_index_expression", f"The index cannot be made: {message}.")
    return ValidationFailed({"indexes": {str(position): problem}})


def view_refused(message: str) -> ValidationFailed:
    """Make the refusal of a view whose query cannot be run."""
    return ValidationFailed({"viewQuery": Problem("validation_invalid_view_query", f"Invalid query: {message}.")})


def check_removable(collection: Collection, schema: Schema) -> None:
    """Raise ApiError 400 if a collection cannot be removed as it is of the system or a relation points to it.

    Whether a view reads it shows when the views are prepared without it.
    """
    if collection.system:
        raise bad_request(f"{collection.name} is a system collection and cannot be removed.")
    pointing = sorted({each.collection.name for each in schema.back_relations(collection)} - {collection.name})
    if pointing:
        raise _referenced(collection, pointing)


def _referenced(collection: Collection, pointing: list[str]) -> ApiError:
    return bad_request(f"{collection.name} cannot be removed: relations of {', '.join(pointing)} point to it.")


# -- names ------------------------------------------------------------------------------------------------------------


def _check_id(new: Collection, old: Collection | None, others: tuple[Collection, ...]) -> Found:
    if old is not None:
        return None if new.id == old.id else _ID_FIXED
    if not new.id:
        return REQUIRED
    if len(new.id) > ID_CHARS_MAX:
        return _out_of_range(ID_CHARS_MAX)
    if not _WORD.fullmatch(new.id):
        return NO_WORD
    lower = new.id.lower()
    return _ID_TAKEN if any(lower in (each.id.lower(), each.name.lower()) for each in others) else None


def _check_name(new: Collection, old: Collection | None, others: tuple[Collection, ...], asked: Asked) -> Found:
    if not new.name:
        return REQUIRED
    if len(new.name) > NAME_CHARS_MAX:
        return _out_of_range(NAME_CHARS_MAX)
    if old is not None and old.system and old.name != new.name:
        return _NAME_FIXED
    if VIA in new.name.lower():
        return FOUND_VIA
    return NO_WORD if not _WORD.fullmatch(new.name) else _check_name_is_free(new.name.lower(), others, asked)


def _check_name_is_free(name: str, others: tuple[Collection, ...], asked: Asked) -> Found:
    if any(each.name.lower() == name for each in others):
        return _NAME_TAKEN
    if any(each.id.lower() == name for each in others):
        return _NAME_IS_ID
    if name.startswith("sqlite_") or name in asked.internal_tables or name in index_checks.names(others):
        return _NAME_RESERVED
    return None


def _out_of_range(most: int) -> Problem:
    params = {"min": 1, "max": most}
    return Problem("validation_length_out_of_range", f"The length must be between 1 and {most}.", params)


# -- rules ------------------------------------------------------------------------------------------------------------


def _check_rules(new: Collection, old: Collection | None, asked: Asked) -> Iterator[tuple[str, Found]]:
    before = old.rules if old is not None and old.system else None
    for key in ("list", "view", "create", "update", "delete"):
        rule: str | None = getattr(new.rules, key)
        if new.is_view and key not in ("list", "view"):
            yield key, None if rule is None else _NOT_NULL
        else:
            kept = _kept_rule(_rule_of(before, key), rule) if before is not None else None
            yield key, first(auth_checks.check_rule(new, rule, asked), kept)


def _rule_of(rules: Rules, key: str) -> str | None:
    rule: str | None = getattr(rules, key)
    return rule


def _kept_rule(before: str | None, after: str | None) -> Found:
    return None if before == after else _RULE_FIXED
