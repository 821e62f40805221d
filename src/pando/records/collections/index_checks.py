"""Whether the indexes of a definition can be: expressions, names across the database, columns, and those of auth.

Pure. Not here: expressions inside an index, which only SQLite judges when the index is made
(`pando.records.collections.checks.index_refused`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pando.records.collections import indexes
from pando.records.collections.asking import Asked, Found
from pando.records.collections.defaults import EMAIL, TOKEN_KEY
from pando.records.collections.indexes import Index
from pando.records.model import Collection
from pando.records.problems import REQUIRED, Problem

_NOT_FOR_VIEWS: Final = Problem("validation_indexes_not_supported", "Views cannot have indexes.")
_NO_INDEX: Final = Problem("validation_invalid_index_expression", "This is no CREATE INDEX statement with a name.")
_NAME_TWICE: Final = Problem("validation_duplicated_index_name", "Another index of this list has the name.")
_SAME_TWICE: Final = Problem("validation_duplicated_index_definition", "Another index of this list does the same.")
_NAME_TAKEN: Final = Problem("validation_existing_index_name", "The name is in use by another collection.")


def check(new: Collection, old: Collection | None, others: Sequence[Collection], asked: Asked) -> Found:
    """Name what is wrong with the indexes."""
    if new.is_view:
        return _NOT_FOR_VIEWS if new.indexes else None
    owners = {name: each.name for each in others for name in _names_of(each)}
    taken = {each.name.lower() for each in (*others, new)} | set(asked.internal_tables)
    parsed: list[Index] = []
    for place, statement in enumerate(new.indexes):
        found = indexes.parse(statement)
        problem = _check_one(statement, found, parsed, taken) or _check_owner(found, new, owners)
        if problem:
            return {str(place): problem}
        if found is not None:
            parsed.append(found)
    return _check_system(new, old) or _check_auth(new)


def names(collections: Iterable[Collection]) -> set[str]:
    """Name the indexes of collections, in lower case."""
    return {name for each in collections for name in _names_of(each)}


def _names_of(collection: Collection) -> frozenset[str]:
    # It is kept on the collection, like its cached properties: each check asks for the names of all others.
    found: frozenset[str] | None = collection.__dict__.get("_index_names")
    if found is None:
        read = map(indexes.parse, collection.indexes)
        found = frozenset([index.name.lower() for index in read if index is not None])
        collection.__dict__["_index_names"] = found
    return found


def _check_one(statement: str, index: Index | None, before: Sequence[Index], taken: set[str]) -> Problem | None:
    if not statement.strip():
        return REQUIRED
    if index is None or index.name.lower().startswith("sqlite_"):
        return _NO_INDEX
    if any(each.name.lower() == index.name.lower() for each in before):
        return _NAME_TWICE
    if index.name.lower() in taken:
        return _NAME_TAKEN
    return _SAME_TWICE if any(each.definition == index.definition for each in before) else None


def _check_owner(index: Index | None, new: Collection, owners: Mapping[str, str]) -> Problem | None:
    """Names are unique over all tables; a collection of the same name is told of by its name."""
    owner = owners.get(index.name.lower()) if index is not None else None
    if owner is None or owner.lower() == new.name.lower():
        return None
    return Problem("validation_existing_index_name", f"The name is in use by {owner}.", {"usedTableName": owner})


def check_columns(new: Collection) -> Found:
    """Name the first index whose columns there are not: what the database would say last of all."""
    known = {each.name.lower() for each in new.fields}
    for place, statement in enumerate(new.indexes):
        found = indexes.parse(statement)
        if found is not None and (problem := _check_columns(found, known)):
            return {str(place): problem}
    return None


def _check_columns(index: Index, known: set[str]) -> Problem | None:
    unknown = [each.name for each in index.columns if not each.is_expression and each.name.lower() not in known]
    if not unknown:
        return None
    text = f"There is no field {unknown[0]}."
    return Problem("validation_invalid_index_expression", text)


def _check_system(new: Collection, old: Collection | None) -> Found:
    """Unique indexes of system fields stay, with their conditions."""
    for field in old.fields if old is not None else ():
        before = indexes.unique_on(old.indexes, field.name) if field.system and old is not None else None
        if before is None:
            continue
        after = indexes.unique_on(new.indexes, field.name)
        if after is None or after.definition != before.definition:
            text = f"The unique index of the system field {field.name} must stay as it is."
            return Problem("validation_invalid_unique_system_field_index", text, {"fieldName": field.name})
    return None


def _check_auth(new: Collection) -> Found:
    for name in (TOKEN_KEY, EMAIL) if new.is_auth else ():
        if indexes.unique_on(new.indexes, name) is None:
            text = f"The field {name} needs a unique index."
            return Problem("validation_missing_required_unique_index", text, {"fieldName": name})
    return None
