"""Planning `PUT /api/collections/import`: what each collection becomes, what goes, and the statements, in order.

A listed collection is found by its id, else by its name, and merged as by a PATCH; fields that are not listed stay,
unless `deleteMissing` is said, which takes collections that are not listed, too; what is of the system always stays.
A field with the name and type of an existing one takes that one's id. Tables come first and views last, as a view can
only be read, and so get its fields, when all tables are there. The caller runs it in one transaction:

1. `plan`, then `check_tables`;
2. the statements of `table_statements`;
3. for each of `plan.views`: `ddl.create_view`, its columns, `views.infer_fields`, `view_row`;
4. `check_all` with the fields of the views.

What the database or `infer_fields` refuses on the way is told with `failed`.

Pure. Not here: running it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.records.collections import bodies, checks, ddl, views
from pando.records.collections.asking import Asked
from pando.records.collections.completing import complete
from pando.records.engine import Statement
from pando.records.model import Collection, Field, RelationField, Schema
from pando.records.problems import REQUIRED, ApiError, Problem, ValidationFailed, bad_request

COLLECTIONS_MAX: Final = 1000
"""Collections of one import."""
_FAILURE: Final = "validation_collections_import_failure"


@dataclass(frozen=True, slots=True)
class Saved:
    """One collection that the import lists: as it was, if it was there, and as it will be."""

    old: Collection | None
    new: Collection


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does."""

    before: Schema
    after: Schema
    """All collections as they will be; views that are listed have the fields that they had."""
    saved: tuple[Saved, ...]
    removed: tuple[Collection, ...]

    @property
    def views(self) -> tuple[Collection, ...]:
        """All views that there will be, each behind those that it reads."""
        return views.in_order([each for each in self.after.collections if each.is_view])

    def old(self, collection: Collection) -> Collection | None:
        """Give a collection as it was."""
        return next((each for each in self.before.collections if each.id == collection.id), None)


# -- planning ---------------------------------------------------------------------------------------------------------


def plan(body: object, schema: Schema, random: Random, now: str) -> Plan:
    """Read an import's body and say what it does; raise ApiError."""
    listed, delete_missing = _read_body(body)
    by_id = {each.id: each for each in schema.collections}
    after = dict(by_id)
    renumbered: dict[str, str] = {}
    touched: list[str] = []
    for told in listed:
        current = Schema(tuple(after.values()))
        existing = _find(told, current)
        if existing is not None and existing.id in touched and existing.id not in by_id:
            raise failed(existing.name, bad_request("it is in the list twice"))
        new = _saved(told, existing, current, random, now, delete_missing)
        if isinstance(own_id := told.get("id"), str) and own_id and own_id != new.id:
            renumbered[own_id] = new.id
        after[new.id] = new
        touched.append(new.id)
    removed = [each for each in by_id.values() if delete_missing and not each.system and each.id not in touched]
    for each in removed:
        del after[each.id]
    final = {key: _retargeted(each, renumbered) if key in touched else each for key, each in after.items()}
    saved = tuple(Saved(by_id.get(key), final[key]) for key in dict.fromkeys(touched))
    return Plan(schema, Schema(tuple(final.values()), schema.version), saved, tuple(removed))


def _read_body(body: object) -> tuple[list[bodies.Body], bool]:
    if not isinstance(body, Mapping):
        raise bodies.malformed()
    listed, delete_missing = body.get("collections"), body.get("deleteMissing")
    if not listed and (listed is None or isinstance(listed, list)):
        raise ValidationFailed({"collections": REQUIRED})
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise bodies.malformed()
    if delete_missing is not None and not isinstance(delete_missing, bool):
        raise bodies.malformed()
    if len(listed) > COLLECTIONS_MAX:
        text = f"There can be {COLLECTIONS_MAX} at most."
        raise ValidationFailed({"collections": Problem("validation_length_too_long", text, {"max": COLLECTIONS_MAX})})
    return listed, bool(delete_missing)


def _find(told: bodies.Body, schema: Schema) -> Collection | None:
    own_id, name = told.get("id"), told.get("name")
    by_id = next((each for each in schema.collections if each.id == own_id), None)
    if by_id is not None or not isinstance(name, str):
        return by_id
    return next((each for each in schema.collections if each.name.lower() == name.lower()), None)


def _saved(
    told: bodies.Body, existing: Collection | None, schema: Schema, random: Random, now: str, delete_missing: bool
) -> Collection:
    try:
        if existing is None:
            return complete(bodies.read_new(told, random), None, schema, random, now)
        draft = replace(bodies.read_change(told, existing), id=existing.id)
    except ApiError as error:
        raise failed(str(told.get("name") or told.get("id")), error) from error
    fields = _merged_fields(draft.fields, existing.fields, delete_missing)
    return complete(replace(draft, fields=fields), existing, schema, random, now)


def _merged_fields(listed: Sequence[Field], existing: Sequence[Field], delete_missing: bool) -> tuple[Field, ...]:
    """Let fields take the ids of those that they stand for, and add those that stay without being listed."""
    old_ids = {each.id for each in existing}
    listed_ids = {each.id for each in listed}
    free = {(each.name, each.type): each.id for each in existing if each.id not in listed_ids}
    found = [
        each if each.id in old_ids else replaced(each, id=free.pop((each.name, each.type), each.id)) for each in listed
    ]
    ids = {each.id for each in found}
    kept = [each for each in existing if each.id not in ids and (each.system or not delete_missing)]
    return (*found, *kept)


def _retargeted(collection: Collection, renumbered: Mapping[str, str]) -> Collection:
    """Point relations to collections that were found by name, and so have other ids here."""
    fields = tuple(
        replaced(each, collection_id=renumbered[each.collection_id])
        if isinstance(each, RelationField) and each.collection_id in renumbered
        else each
        for each in collection.fields
    )
    return replace(collection, fields=fields)


# -- checks -----------------------------------------------------------------------------------------------------------


def check_tables(planned: Plan, asked: Asked) -> None:
    """Check all but rules and the fields of views, before any statement is run; raise ValidationFailed."""
    without_rules = replace(asked, rule=lambda _collection, _text: None)
    for each in planned.saved:
        if each.new.is_view:
            _check_query(each.new)
        else:
            _check(each, planned.after, without_rules)
    _check_targets(planned)


def _check_query(view: Collection) -> None:
    try:
        views.check_query(view.view_query)
    except ValidationFailed as error:
        raise failed(view.name, error) from error


def check_all(planned: Plan, with_fields: Schema, asked: Asked) -> None:
    """Check everything that was saved; `with_fields` has the views with the fields that they got. Raise
    ValidationFailed.
    """
    by_id = {each.id: each for each in with_fields.collections}
    for each in planned.saved:
        _check(Saved(each.old, by_id[each.new.id]), with_fields, asked)


def _check(saved: Saved, schema: Schema, asked: Asked) -> None:
    others = tuple(each for each in schema.collections if each.id != saved.new.id)
    known = Schema((*others, saved.old)) if saved.old else Schema(others)
    try:
        checks.check(saved.new, saved.old, known, asked)
    except ValidationFailed as error:
        raise failed(saved.new.name, error) from error


def _check_targets(planned: Plan) -> None:
    """A collection that stays must not point to one that goes."""
    ids = {each.id for each in planned.after.collections}
    for collection in planned.after.collections:
        for field in collection.fields:
            if isinstance(field, RelationField) and field.collection_id not in ids and not collection.is_view:
                reason = ApiError(400, f"{field.name} points to a collection that is not there")
                raise failed(collection.name, reason)


def failed(name: str, error: ApiError) -> ValidationFailed:
    """Make the refusal of an import for what is wrong with one of its collections."""
    details = "; ".join(f"{key}: {each}" for key, each in _told(error.data)) or str(error)
    text = f"Nothing was imported, for {name}: {details}"
    return ValidationFailed({"collections": Problem(_FAILURE, text)})


def _told(data: Mapping[str, object], path: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, each in data.items():
        at = f"{path}.{key}".lstrip(".")
        if isinstance(each, Problem):
            found.append((at, each.message))
        elif isinstance(each, Mapping):
            found += _told(each, at)
    return found


# -- statements -------------------------------------------------------------------------------------------------------


def table_statements(planned: Plan, column_sql: ddl.ColumnSql) -> list[Statement]:
    """Give everything but views and their rows: all views are dropped, tables removed, changed and made."""
    tables = [each for each in planned.saved if not each.new.is_view]
    changed = [(each.old, each.new) for each in tables if each.old is not None]
    detours = {old.id: f"~import{place}" for place, (old, new) in enumerate(changed) if old.name != new.name}
    is_kept = {each.id for each in planned.after.collections}
    old_views = [each for each in planned.before.collections if each.is_view]
    statements = ddl.drop_views(old_views)
    statements += [ddl.delete_row(each) for each in old_views if each.id not in is_kept]
    statements += [_rename_row(each, f"~view{place}") for place, each in enumerate(old_views) if each.id in is_kept]
    statements += [each for gone in planned.removed if not gone.is_view for each in ddl.delete(gone)]
    statements += [each for old, new in changed for each in _drop_gone_indexes(old, new)]
    statements += [ddl.rename_table(old.name, detours[old.id])[0] for old, _ in changed if old.id in detours]
    statements += [_rename_row(old, detours[old.id]) for old, _ in changed if old.id in detours]
    for old, new in changed:
        kept = tuple(each for each in old.indexes if each in new.indexes)
        from_there = replace(old, name=detours.get(old.id, old.name), indexes=kept)
        statements += ddl.change(from_there, new, column_sql)
    return statements + [each for one in tables if one.old is None for each in ddl.create(one.new, column_sql)]


def view_row(planned: Plan, view: Collection) -> Statement:
    """Give the statement that keeps a view's definition, with the fields that it got."""
    old = planned.old(view)
    return ddl.insert_row(view) if old is None else ddl.update_row(old.id, view)


def _drop_gone_indexes(old: Collection, new: Collection) -> list[Statement]:
    return [each for statement in old.indexes if statement not in new.indexes for each in ddl.drop_index(statement)]


def _rename_row(old: Collection, name: str) -> Statement:
    """Free the name in the row, which is unique, as long as others may take it."""
    return Statement("UPDATE `_collections` SET `name` = ? WHERE `id` = ?", (name, old.id))
