"""Creating and changing records, on the primary.

Order of a create: rule on the record as it would be, checks, one INSERT. Of a change: rule on the stored record,
checks, one UPDATE that gives back what is stored now. What SQLite's unique indexes refuse is told by field. Not here:
bodies (`bodies`), auth records' own checks (`auth_checks`), deleting (`deleting`), the answer's JSON (`listing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from pando.errors import Overloaded, SqlError
from pando.records import auth_checks
from pando.records.bodies import Draft, changes_of, draft_of, draft_onto
from pando.records.collections import indexes
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, columns_of
from pando.records.engine import Place, Row, Statement, Value
from pando.records.fields import FieldValue, ops
from pando.records.fields.choices import Choice, FileOps
from pando.records.fields.modifiers import Assignment, Change, assignment, has_modifiers, rule_body
from pando.records.fields.read_back import is_exact_sum, is_read_back
from pando.records.files.filing import Filing, file_fields
from pando.records.filter import Filter, Trust
from pando.records.listing import find_visible_row
from pando.records.model import Collection, FileField, RelationField
from pando.records.problems import ApiError, Problem, Problems, ValidationFailed, bad_request, not_found
from pando.records.record import Record, from_row
from pando.records.references import check_references
from pando.records.rules import holds, may

TRIES_MAX: Final = 10
"""How often an update is done again because another one came in between; each time another one has succeeded."""
NOT_UNIQUE: Final = Problem("validation_not_unique", "Value must be unique.")
_BODY: Final = "@request.body."
_FAILED_COLUMNS = re.compile(r"UNIQUE constraint failed: ([^()]+)$")
_FAILED_INDEX = re.compile(r"UNIQUE constraint failed: index '(.+)'$")


def may_create(asking: Asking, collection: Collection) -> str:
    """Give the rule that a new record must satisfy. Raises ApiError, without a look at the record."""
    _writable(collection)
    return may(asking, collection.rules.create)


def may_update(asking: Asking, collection: Collection) -> str:
    """Give the rule that a stored record must satisfy to be changed. Raises ApiError, without a look at the record."""
    _writable(collection)
    return may(asking, collection.rules.update)


async def create_record(
    desk: Desk, asking: Asking, collection: Collection, body: Mapping[str, Any], filing: Filing
) -> Record:
    """Check and insert a record. Raises ApiError."""
    rule = may_create(asking, collection)
    draft = draft_of(collection, body, asking=asking, stored=None, random=desk.random)
    asking = asking.within(asking.info.context, body=rule_body(collection, body, draft.changes))
    is_manager = await _manages(desk, asking, collection, draft, None)
    if rule and not await _would_hold(desk, asking, collection, rule, draft.values):
        raise bad_request("Failed to create record.")
    problems = await _problems_of_new(desk, asking, collection, body, draft, is_manager=is_manager)
    if problems:
        raise ValidationFailed(_told(asking, collection, problems), "Failed to create record.")
    values = await auth_checks.hashed(desk, collection, draft.values)
    statement = insert_statement(collection, values)
    await _store_files(collection, values, str(values["id"]), filing)
    refused = partial(_refused, asking, collection, "Failed to create record.")
    await desk.engine.put([statement], refused, Place(collection.name, str(values["id"])))
    return Record(collection, _as_stored(collection, values))


async def _store_files(collection: Collection, values: Mapping[str, FieldValue], id: str, filing: Filing) -> None:
    await filing.store(collection, id, [values[each.name] for each in file_fields(collection)])
    filing.writes()


def _as_stored(collection: Collection, values: Mapping[str, FieldValue]) -> Mapping[str, FieldValue]:
    """Give values with the names of files in place of the files."""
    if not file_fields(collection):
        return values
    found = dict(values)
    for each in file_fields(collection):
        its = ops(each)
        found[each.name] = its.from_column(its.to_column(values[each.name]))
    return found


def insert_statement(collection: Collection, values: Mapping[str, FieldValue]) -> Statement:
    """Give the INSERT of a record."""
    names = [each.name for each in collection.fields]
    columns = ", ".join(quote(name) for name in names)
    places = ", ".join("?" * len(names))
    return Statement(
        f"INSERT INTO {quote(collection.name)} ({columns}) VALUES ({places})", _columns(collection, values)
    )


def _columns(collection: Collection, values: Mapping[str, FieldValue]) -> tuple[Value, ...]:
    return tuple([ops(each).to_column(values[each.name]) for each in collection.fields])


async def update_record(
    desk: Desk, asking: Asking, collection: Collection, id: str, body: Mapping[str, Any], filing: Filing
) -> Record:
    """Check and change a record. Raises ApiError.

    A change that was made of what is stored is written only if that is stored still; else everything is done again.
    """
    rule = may_update(asking, collection)
    for _ in range(TRIES_MAX):
        changed = await _try_update(desk, asking, collection, rule, id, body, filing)
        if changed is not None:
            return changed
    raise Overloaded(f"the record was changed by others {TRIES_MAX} times meanwhile; nothing was changed, try again")


async def _try_update(
    desk: Desk, asking: Asking, collection: Collection, rule: str, id: str, body: Mapping[str, Any], filing: Filing
) -> Record | None:
    columns = columns_of(collection)
    found = await _find_and_draft(desk, asking, collection, rule, id, body)
    if found is None:
        return None
    row, stored, draft = found
    asking = asking.within(asking.info.context, body=rule_body(collection, body, draft.changes))
    is_manager = await _manages(desk, asking, collection, draft, stored)
    problems: Problems = {}
    if collection.is_auth:
        problems = await auth_checks.asked_of_change(desk, asking, stored, body, draft, is_manager=is_manager)
    problems = problems or await _problems(desk, asking, draft, collection, stored)
    if problems:
        raise ValidationFailed(_told(asking, collection, problems), "Failed to update record.")
    values = await auth_checks.hashed(desk, collection, draft.values)
    changes = [
        _change_of(collection, name, draft, values, rule)
        for name in draft.changed
        if values[name] != stored.get(name) or _is_delta(draft, name)
    ]
    if not changes:
        return stored
    before = [row[columns.index(each.field.name)] for each in changes]
    assignments = [assignment(each, value) for each, value in zip(changes, before, strict=True)]
    await _store_files(collection, values, stored.id, filing)
    dropped = auth_checks.dropped_with(stored, draft.changed, values)
    foreseen = _foreseen(stored, changes, before) if desk.engine.is_alone else None
    changed = await _write_change(desk, asking, stored, assignments, dropped, foreseen)
    if changed is not None and any(isinstance(collection.by_name[name], FileField) for name in draft.changed):
        filing.dropped(stored, kept=changed)
    return changed


async def _find_and_draft(
    desk: Desk, asking: Asking, collection: Collection, rule: str, id: str, body: Mapping[str, Any]
) -> tuple[Row, Record, Draft] | None:
    """Read the record that the rule holds for, and put the body onto it; None if it changed in between.

    The rule sees in `@request.body` what the body comes to, which with modifiers is known only once the record is read.
    """
    columns = columns_of(collection)
    blank = changes_of(collection, body, asking=asking, stored=None, random=desk.random)  # raises alike for all ids
    is_modified = has_modifiers(collection, body)
    if not rule or not is_modified:
        early = asking.within(asking.info.context, body=rule_body(collection, body, blank))
        row = await find_visible_row(desk, early, collection, id, rule)
        stored = from_row(collection, columns, row)
        if not is_modified:
            return row, stored, draft_onto(stored, blank, asking)
        return row, stored, draft_of(collection, body, asking=asking, stored=stored, random=desk.random)
    before = await find_visible_row(desk, asking, collection, id, "")
    stored = from_row(collection, columns, before)
    draft = draft_of(collection, body, asking=asking, stored=stored, random=desk.random)
    asking = asking.within(asking.info.context, body=rule_body(collection, body, draft.changes))
    row = await find_visible_row(desk, asking, collection, id, rule)
    return (row, stored, draft) if row == before else None


def _is_delta(draft: Draft, name: str) -> bool:
    change = draft.changes.get(name)
    return change is not None and bool(change.delta)


def _change_of(collection: Collection, name: str, draft: Draft, values: Mapping[str, FieldValue], rule: str) -> Change:
    """Say how a column changes: as the body told, unless the server has made another value of it since."""
    told = draft.changes.get(name)
    known = collection.by_name[name]
    if told is None or told.value is not values[name]:
        return Change(known, values[name])
    if told.delta is not None and _BODY in rule:
        return replace(told, delta=None, needs_stored=True)  # the rule was asked about this sum and no other
    # Which files are not named any more is known only if those that were read are those that are replaced.
    return replace(told, needs_stored=True) if isinstance(known, FileField) else told


def _foreseen(stored: Record, changes: Sequence[Change], before: Sequence[Value]) -> Record | None:
    """Give the record as it is read back after a change, if that is sure; `before` is what the columns hold."""
    for each, value in zip(changes, before, strict=True):
        is_sure = each.delta is None or is_exact_sum(value, each.delta)
        if not is_sure or not is_read_back(each.field, each.value):
            return None
    values = {**stored.values, **{each.field.name: each.value for each in changes}}
    return Record(stored.collection, _as_stored(stored.collection, values))


async def _write_change(
    desk: Desk,
    asking: Asking,
    stored: Record,
    assignments: Sequence[Assignment],
    dropped: Sequence[Statement],
    foreseen: Record | None,
) -> Record | None:
    """Run the UPDATE, and `dropped` with it; None if the record is there but another change came in between.

    `foreseen` is what is stored then, if that is known and nobody comes in between: it need not be read back.
    """
    collection = stored.collection
    columns = columns_of(collection)
    names = ", ".join(quote(name) for name in columns)
    parts = ", ".join(each.sql for each in assignments)
    guards = "".join(f" AND {each.guard}" for each in assignments if each.guard)
    args = [arg for each in assignments for arg in each.args]
    guard_args = [arg for each in assignments for arg in each.guard_args]
    sql = f"UPDATE {quote(collection.name)} SET {parts} WHERE `id` = ?{guards}"
    refused = partial(_refused, asking, collection, "Failed to update record.")
    place = Place(collection.name, stored.id)
    if foreseen is not None:
        await desk.engine.put([Statement(sql, (*args, stored.id, *guard_args)), *dropped], refused, place)
        return foreseen
    sql = f"{sql} RETURNING {names}"
    try:
        written = await desk.engine.write([Statement(sql, (*args, stored.id, *guard_args)), *dropped], place)
    except SqlError as error:
        raise refused(error) from error
    if written[0].rows:
        return from_row(collection, columns, written[0].rows[0])
    if guards:
        return None
    raise not_found()


# -- checks -------------------------------------------------------------------------------------------------------


def _writable(collection: Collection) -> None:
    if collection.is_view:
        raise bad_request("Unsupported collection type.")


async def _would_hold(
    desk: Desk, asking: Asking, collection: Collection, rule: str, values: Mapping[str, FieldValue]
) -> bool:
    """Tell whether a rule holds for a record that is not stored."""
    overlay = {
        each.name: "" if each.type == "password" else ops(each).to_column(values[each.name])
        for each in collection.fields
    }
    return await desk.count(asking, collection, filters=(Filter(rule, Trust.RULE),), overlay=overlay) > 0


async def _manages(desk: Desk, asking: Asking, collection: Collection, draft: Draft, stored: Record | None) -> bool:
    """Tell whether the caller may do with an auth record what only its manager may."""
    if asking.is_superuser:
        return True
    rule = None if collection.auth is None else collection.auth.manage_rule
    if rule is None or not rule.strip() or asking.auth is None:
        return False
    if stored is None:
        return await _would_hold(desk, asking, collection, rule, draft.values)
    return await holds(desk, asking, collection, rule, stored.id)


async def _problems_of_new(
    desk: Desk, asking: Asking, collection: Collection, body: Mapping[str, Any], draft: Draft, *, is_manager: bool
) -> Problems:
    if not collection.is_auth:
        return await _problems(desk, asking, draft, collection, None)
    asked = auth_checks.asked_of_new(body, draft, is_manager=is_manager)
    if asked:
        return asked
    of_auth = await auth_checks.of_new(desk, asking, collection, draft)
    return await _problems(desk, asking, draft, collection, None) | of_auth


async def _problems(
    desk: Desk, asking: Asking, draft: Draft, collection: Collection, stored: Record | None
) -> dict[str, Problem | Problems]:
    """Check each value, of a change also those that stay: the field may ask for more than it did when they were stored.

    Then whether related records exist, those that are new.
    """
    found: dict[str, Problem | Problems] = dict(draft.problems)
    for known in collection.fields:
        name = known.name
        if name in found or (name == "id" and stored is not None and draft.values[name] == stored.id):
            continue
        its = ops(known)
        problem = its.check(draft.values[name])
        if problem is None and isinstance(its, FileOps):
            before = its.zero if stored is None else cast("Choice", stored.get(name))
            problem = its.check_stored(cast("Choice", draft.values[name]), before)
        if problem is None and isinstance(known, RelationField) and (stored is None or _is_new(known, draft, stored)):
            problem = await _missing(desk, asking, known, draft.values[name])
        if problem is not None:
            found[name] = problem
    if stored is not None and "id" in draft.changed and draft.values["id"] != stored.id:
        found["id"] = Problem("validation_pk_change", "The record primary key cannot be changed.")
    if not found and collection.system:
        found |= await check_references(desk.engine.reads(), asking.schema, collection, draft.values)
    return found


def _is_new(relation: RelationField, draft: Draft, stored: Record) -> bool:
    return draft.values[relation.name] != stored.get(relation.name)


async def _missing(desk: Desk, asking: Asking, relation: RelationField, value: FieldValue) -> Problem | None:
    ids = [value] if isinstance(value, str) and value else [*value] if isinstance(value, list) else []
    if not ids:
        return None
    target = asking.schema.find(relation.collection_id)
    if target is None:
        return Problem("validation_missing_rel_collection", "Relation connection is missing or cannot be accessed.")
    wanted = set(map(str, ids))
    if await desk.count_ids(asking.schema, target, wanted) != len(wanted):
        return Problem("validation_missing_rel_records", "Failed to find all relation records with the provided ids.")
    return None


def _told(asking: Asking, collection: Collection, problems: Problems) -> Problems:
    """Leave out hidden fields, whose names only superusers know; everybody sends the password of an auth record."""
    known = {} if asking.is_superuser else collection.by_name
    return {
        name: each
        for name, each in problems.items()
        if name not in known or not known[name].hidden or (collection.is_auth and name == "password")
    }


def _refused(asking: Asking, collection: Collection, message: str, error: SqlError) -> ApiError:
    """Tell by field what a unique index refused."""
    names = _not_unique(error.message, collection)
    if not names:
        return bad_request(message)
    return ValidationFailed(_told(asking, collection, dict.fromkeys(names, NOT_UNIQUE)), message)


def _not_unique(message: str, collection: Collection) -> Sequence[str]:
    by_index = _FAILED_INDEX.search(message)
    if by_index:
        parsed = (indexes.parse(each) for each in collection.indexes)
        found = next((each for each in parsed if each is not None and each.name == by_index[1]), None)
        known = collection.by_name
        return [each.name for each in found.columns if each.name in known] if found else []
    by_column = _FAILED_COLUMNS.search(message)
    if not by_column:
        return []
    return [part.strip().rpartition(".")[2] for part in by_column[1].split(",")]
