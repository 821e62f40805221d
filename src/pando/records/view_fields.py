"""Makes views in a transaction and finds out their fields; brings views up to date after what they read has changed.

Only the database knows the columns of a query, and only once all that it reads is there. Not here: what a column's
field is (`pando.records.collections.views`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pando.clock import Random
from pando.errors import SqlError
from pando.records.collections import checks, ddl, views
from pando.records.collections.sql_tokens import quote
from pando.records.engine import Transaction, Value
from pando.records.model import Collection, Schema
from pando.records.problems import ValidationFailed, bad_request

SAMPLE: Final = 10
"""Rows that a dry run shows."""
_WITHOUT_ID: Final = "SELECT 1 FROM {} WHERE ifnull(length(id), 0) = 0 LIMIT 1"


async def make_view(
    transaction: Transaction, schema: Schema, view: Collection, random: Random, *, is_new: bool = True
) -> Collection:
    """Make a view that is not there, and give it with its fields. Raises ApiError.

    One that is new to the caller is refused while it gives records without an id; what was fine once stays.
    """
    views.check_query(view.view_query)
    statement = ddl.create_view(view)
    try:
        await transaction.execute(statement.sql)
        await transaction.query(f"SELECT * FROM {quote(view.name)} LIMIT 1")  # only now SQLite looks at the whole query
        rows = await transaction.query("SELECT name FROM pragma_table_info(?)", (view.name,))
    except SqlError as error:
        raise checks.view_refused(error.message) from error
    names = [str(row[0]) for row in rows]
    if is_new and "id" in names and await transaction.query(_WITHOUT_ID.format(quote(view.name))):
        raise checks.view_refused("it gives records without an id")
    return replace(view, fields=views.infer_fields(view.view_query, names, schema, random, view.fields))


async def drop_view(transaction: Transaction, view: Collection) -> None:
    """Remove a view."""
    await transaction.execute(ddl.drop_view(view).sql)


async def refresh_views(transaction: Transaction, schema: Schema, random: Random) -> Schema:
    """Make all views anew after a change of what they read, and write those that have other fields. Raises ApiError."""
    found = views.in_order([each for each in schema.collections if each.is_view])
    for view in found:
        await drop_view(transaction, view)
    for view in found:
        try:
            made = await make_view(transaction, schema, view, random, is_new=False)
        except ValidationFailed as error:  # which is about no field of what was sent
            raise bad_request(f"The view {view.name} could not be read any more.") from error
        if made.fields != view.fields:
            statement = ddl.update_row(view.id, made)
            await transaction.execute(statement.sql, statement.args)
            schema = with_collection(schema, made)
    return schema


def with_collection(schema: Schema, made: Collection) -> Schema:
    """Give the schema with one collection replaced, or added."""
    others = [made if each.id == made.id else each for each in schema.collections]
    return Schema(tuple(others if made in others else [*others, made]), schema.version)


async def sample(transaction: Transaction, view: Collection) -> Sequence[Sequence[Value]]:
    """Give some rows of a view, its columns in the order of its fields."""
    names = ", ".join(quote(each.name) for each in view.fields)
    return await transaction.query(f"SELECT {names} FROM {quote(view.name)} LIMIT {SAMPLE}")
