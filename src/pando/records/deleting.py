"""Deleting records with what refers to them, in one transaction.

A relation with `cascadeDelete` takes its record along, one that holds several only when nothing is left in it; from
others the id is taken out, unless the field is required and would become empty: then nothing is deleted. Auth records
take along what was kept for signing in. Not here: removing files of deleted records (`pando.records.files.filing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pando.errors import SqlError
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, columns_of, find_all, is_superusers
from pando.records.engine import Place, Row, Statement, Transaction
from pando.records.fields import jsontext
from pando.records.files.filing import Filing, file_fields
from pando.records.listing import find_visible
from pando.records.model import BackRelation, Collection, Schema
from pando.records.problems import bad_request
from pando.records.record import Record, from_row
from pando.records.rules import may

DEPTH_MAX: Final = 100
STEP: Final = 4000
"""Referrers that are read at a time."""
_DEPENDENTS: Final = ("_externalAuths", "_mfas", "_otps", "_authOrigins")
_FAILED: Final = "Failed to delete record. Make sure that the record is not part of a required relation reference."


async def delete_record(desk: Desk, asking: Asking, collection: Collection, id: str, filing: Filing) -> list[Record]:
    """Delete a record; gives all that were deleted (of those without files perhaps by others). Raises ApiError."""
    deleted = await _delete_with_others(desk, asking, collection, id)
    for record in deleted:
        filing.dropped(record)
    return deleted


async def _delete_with_others(desk: Desk, asking: Asking, collection: Collection, id: str) -> list[Record]:
    if collection.is_view:
        raise bad_request("Unsupported collection type.")
    stored = await find_visible(desk, asking, collection, id, may(asking, collection.rules.delete))
    if not refers_anything(asking.schema, collection):
        statement = Statement(_delete_of(collection), (stored.id,))
        if not file_fields(collection):
            await desk.engine.put([statement], _as_it_is, Place(collection.name, stored.id))
            return [stored]
        written = await desk.engine.write([statement], Place(collection.name, stored.id))
        return [_as_deleted(stored, written[0].rows)] if written[0].changed else []
    async with desk.engine.transaction() as transaction:
        return await delete_in(transaction, asking.schema, stored)


def _as_it_is(error: SqlError) -> SqlError:
    return error


def _delete_of(collection: Collection) -> str:
    """Give the statement; it gives back what was stored at that moment where that names files."""
    sql = f"DELETE FROM {quote(collection.name)} WHERE `id` = ?"
    if not file_fields(collection):
        return sql
    return f"{sql} RETURNING {', '.join(quote(name) for name in columns_of(collection))}"


def _as_deleted(read: Record, rows: Sequence[Row]) -> Record:
    return from_row(read.collection, columns_of(read.collection), rows[0]) if rows else read


def refers_anything(schema: Schema, collection: Collection) -> bool:
    """Tell whether more than the record itself may have to change."""
    return collection.is_auth or any(not each.collection.is_view for each in schema.back_relations(collection))


async def delete_in(transaction: Transaction, schema: Schema, record: Record) -> list[Record]:
    """Delete a record inside a transaction. Raises ApiError: the caller rolls back."""
    deleted: list[Record] = []
    await _delete(transaction, schema, record, deleted, 0)
    return deleted


async def _delete(tx: Transaction, schema: Schema, record: Record, deleted: list[Record], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise bad_request(f"The record is referred to over more than {DEPTH_MAX} levels.")
    collection = record.collection
    if is_superusers(collection) and (await tx.query("SELECT count(*) FROM `_superusers`"))[0][0] == 1:
        raise bad_request("You can't delete the only existing superuser.")
    written = await tx.execute(_delete_of(collection), (record.id,))
    if not written.changed:
        return  # a circle led back to it
    deleted.append(_as_deleted(record, written.rows))
    if collection.is_auth:
        for name in _DEPENDENTS:
            sql = f"DELETE FROM {quote(name)} WHERE `collectionRef` = ? AND `recordRef` = ?"
            await tx.later(Statement(sql, (collection.id, record.id)), _as_it_is)
    for relation in schema.back_relations(collection):
        if not relation.collection.is_view:
            await _release(tx, schema, record, relation, deleted, depth)


async def _release(
    tx: Transaction, schema: Schema, record: Record, relation: BackRelation, deleted: list[Record], depth: int
) -> None:
    """Take the id of a deleted record out of one relation field of another collection."""
    name = relation.field.name
    while True:
        referrers = await find_all(tx, relation.collection, _refers(relation), (record.id,))
        for referrer in referrers:
            left = [id for id in referrer.texts(name) if id != record.id]
            if relation.field.cascade_delete and not left:
                await _delete(tx, schema, referrer, deleted, depth + 1)
            elif relation.field.required and not left:
                raise bad_request(_FAILED)
            else:
                await _set(tx, referrer, relation, left)
        if len(referrers) < STEP:
            return


def _refers(relation: BackRelation) -> str:
    column = quote(relation.field.name)
    if not relation.field.is_multiple:
        return f"{column} = ? LIMIT {STEP}"
    listed = f"CASE WHEN json_valid({column}) THEN {column} ELSE json_array({column}) END"
    return f"EXISTS (SELECT 1 FROM json_each({listed}) WHERE value = ?) LIMIT {STEP}"


async def _set(tx: Transaction, referrer: Record, relation: BackRelation, left: Sequence[str]) -> None:
    value = jsontext.encode(list(left)).decode() if relation.field.is_multiple else "".join(left[-1:])
    table, column = quote(referrer.collection.name), quote(relation.field.name)
    try:
        await tx.execute(f"UPDATE {table} SET {column} = ? WHERE `id` = ?", (value, referrer.id))
    except SqlError as error:
        raise bad_request(_FAILED) from error
