"""Making, changing and removing collections, on the primary, each in one transaction with its tables.

The definitions are read again inside the transaction, so that two changes at once never build on the same old state.
Whatever changes a row of `_collections` gives it an `updated` later than all others: processes see by it that there is
something new (`schema_cache`). Not here: what a definition may be (`collections`), records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pando.clock import Random
from pando.errors import SqlError
from pando.records.collections import bodies, checks, ddl, field_checks, imports, rows, shapes
from pando.records.collections.asking import Asked
from pando.records.collections.completing import complete
from pando.records.collections.sql_tokens import quote
from pando.records.deleting import delete_in
from pando.records.desk import Asking, Desk, find_all
from pando.records.engine import Statement, Transaction
from pando.records.fields import dates, ops
from pando.records.fields.autogenerate import from_pattern, random_text
from pando.records.fields.matching import matcher
from pando.records.fields.patterns import PatternError
from pando.records.files.filing import Filing
from pando.records.filter import Compiler, FilterError, RequestInfo
from pando.records.model import Collection, CollectionType, Schema, TextField
from pando.records.problems import REQUIRED, ApiError, Problem, Problems, ValidationFailed, bad_request, not_found
from pando.records.record import GUEST, from_row, record_json
from pando.records.setup import column_sql
from pando.records.view_fields import drop_view, make_view, refresh_views, sample, with_collection

PROVIDERS: Final = frozenset(
    (
        *("apple", "bitbucket", "box", "discord", "facebook", "gitea", "gitee", "github", "gitlab", "google"),
        *("instagram2", "kakao", "lark", "linear", "livechat", "mailcow", "microsoft", "monday", "notion", "oidc"),
        *("oidc2", "oidc3", "patreon", "planningcenter", "spotify", "strava", "trakt", "twitch", "twitter", "vk"),
        *("wakatime", "yandex"),
    )
)
"""OAuth2 providers that a collection may name."""
QUERY_CHARS_MAX: Final = 5000
TRUNCATE_STEP: Final = 500


async def create_collection(desk: Desk, asking: Asking, body: object) -> Collection:
    """Make a collection. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        draft = bodies.read_new(body, desk.random)
        new = complete(draft, None, schema, desk.random, next_moment(asking, schema))
        if new.is_view:
            await check_names(desk, asking, schema, new, None)
            new = await _made(desk, asking, transaction, schema, new, None)
            await check(desk, asking, schema, new, None)
            await run(transaction, new, [ddl.insert_row(new)])
        else:
            await check(desk, asking, schema, new, None)
            await run(transaction, new, ddl.create(new, column_sql))
    return new


async def update_collection(desk: Desk, asking: Asking, reference: str, body: object) -> Collection:
    """Change a collection. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        old = found_in(schema, reference)
        if isinstance(body, dict) and body.get("id") not in (None, "", old.id):
            raise bad_request("The id of a collection cannot be changed.")
        draft = bodies.read_change(body, old)
        new = complete(draft, old, schema, desk.random, next_moment(asking, schema))
        previous = await _row_of(transaction, old)
        if new.is_view:
            await check_names(desk, asking, schema, new, old)
            await drop_view(transaction, old)
            new = await _made(desk, asking, transaction, schema, new, old)
            await check(desk, asking, schema, new, old)
            await run(transaction, new, [ddl.update_row(old.id, new, previous)])
        else:
            await check(desk, asking, schema, new, old)
            views = [each for each in schema.collections if each.is_view]
            await run(transaction, new, ddl.change(old, new, column_sql, views=views, previous=previous))
        await _refresh(desk, transaction, with_collection(schema, new))
    return new


async def _made(
    desk: Desk, asking: Asking, transaction: Transaction, schema: Schema, new: Collection, old: Collection | None
) -> Collection:
    """Make a view; if that fails, tell what else is wrong with it, as one that has no fields."""
    try:
        return await make_view(transaction, schema, new, desk.random)
    except ValidationFailed as error:
        raise ValidationFailed({**_without_fields(desk, asking, schema, new, old), **error.data}) from error


async def _refresh(desk: Desk, transaction: Transaction, schema: Schema) -> None:
    """Bring views up to date; those that cannot be made any more forbid the change."""
    try:
        await refresh_views(transaction, schema, desk.random)
    except ValidationFailed as error:
        raise bad_request("A view reads what would not be there any more.") from error


async def import_collections(desk: Desk, asking: Asking, body: object) -> None:
    """Bring all collections to what a list says. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        before = await load_schema(transaction)
        planned = imports.plan(body, before, desk.random, next_moment(asking, before))
        imports.check_tables(planned, asked_by(asking, planned.after.collections, desk.random))
        for statement in imports.table_statements(planned, column_sql):
            try:
                await transaction.execute(statement.sql, statement.args)
            except SqlError as error:
                raise imports.failed("a table", bad_request(error.message)) from error
        schema = planned.after
        for view in planned.views:
            try:
                made = await make_view(transaction, schema, view, desk.random)
            except ApiError as error:
                raise imports.failed(view.name, error) from error
            schema = with_collection(schema, made)
            row = imports.view_row(planned, made)
            await transaction.execute(row.sql, row.args)
        imports.check_all(planned, schema, asked_by(asking, schema.collections, desk.random))
        if planned.removed:
            await _touch(transaction, next_moment(asking, schema))


async def dry_run_view(desk: Desk, body: Mapping[str, Any]) -> dict[str, object]:
    """Say what fields a query would have, with some records; nothing is kept. Raises ApiError."""
    query = body.get("query")
    if query is not None and not isinstance(query, str):
        raise bad_request("The query must be text.")
    if not query or not query.strip():
        raise ValidationFailed({"query": REQUIRED})
    if len(query) > QUERY_CHARS_MAX:
        text = f"{QUERY_CHARS_MAX} characters at most."
        raise ValidationFailed(
            {"query": Problem("validation_length_too_long", text, {"max": QUERY_CHARS_MAX, "min": 0})}
        )
    name = "pando_dry_run_" + random_text(desk.random, 12)
    view = Collection(id=name, name=name, type=CollectionType.VIEW, view_query=query)
    found: dict[str, object] = {}
    try:
        async with desk.engine.transaction() as transaction:
            schema = await load_schema(transaction)
            try:
                made = await make_view(transaction, schema, view, desk.random)
            except ValidationFailed as error:
                refused = error.data.get("viewQuery")
                raise bad_request(refused.message if isinstance(refused, Problem) else error.message) from error
            if any(field_checks.check_name(each.name) for each in made.fields):
                raise bad_request(
                    "Each column of the query needs a name of its own, of letters, digits and underscores."
                )
            rows = await sample(transaction, made)
            names = [each.name for each in made.fields]
            records = [record_json(from_row(made, names, row), GUEST) for row in rows]
            fields = [shapes.field_value(each) for each in made.fields]
            found = {"fields": fields, "sample": records}
            raise _NothingIsKept
    except _NothingIsKept:
        return found
    except ValidationFailed as error:
        raise bad_request("The query cannot be that of a view.") from error


class _NothingIsKept(Exception):
    """Rolls a transaction back."""


async def delete_collection(desk: Desk, asking: Asking, reference: str) -> Collection:
    """Remove a collection with its records, give what it was. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        old = found_in(schema, reference)
        checks.check_removable(old, schema)
        await run(transaction, old, ddl.delete(old))
        await _touch(transaction, next_moment(asking, schema))
        left = Schema(tuple([each for each in schema.collections if each.id != old.id]))
        await _refresh(desk, transaction, left)
    return old


async def truncate_collection(desk: Desk, asking: Asking, reference: str, filing: Filing) -> None:
    """Delete all records of a collection with what refers to them. Raises ApiError."""
    collection = asking.collection(reference)
    if collection.is_view:
        raise bad_request("View collections cannot be truncated.")
    async with desk.engine.transaction() as transaction:
        while True:
            found = await find_all(transaction, collection, f"1 LIMIT {TRUNCATE_STEP}", ())
            for record in found:
                for deleted in await delete_in(transaction, asking.schema, record):
                    filing.dropped(deleted)
            if len(found) < TRUNCATE_STEP:
                return


# -- parts --------------------------------------------------------------------------------------------------------


async def load_schema(transaction: Transaction) -> Schema:
    """Read all definitions inside a transaction."""
    return Schema(tuple([rows.from_row(row) for row in await transaction.query(rows.SELECT)]))


def found_in(schema: Schema, reference: str) -> Collection:
    """Find a collection. Raises ApiError 404."""
    found = schema.find(reference)
    if found is None:
        raise not_found()
    return found


def next_moment(asking: Asking, schema: Schema) -> str:
    """Give the time, or what comes right after the newest `updated` if that is later."""
    now = dates.from_unix_ms(asking.now_ms)
    newest = max((each.updated for each in schema.collections), default="")
    if newest < now:
        return now
    moment = datetime.fromisoformat(dates.parse(newest) or now)
    return dates.format_moment(moment + timedelta(milliseconds=1))


async def check(desk: Desk, asking: Asking, schema: Schema, new: Collection, old: Collection | None) -> None:
    """Check a definition against all others. Raises ValidationFailed."""
    others = tuple([each for each in schema.collections if old is None or each.id != old.id])
    checks.check(new, old, schema, asked_by(asking, (*others, new), desk.random))


async def check_names(desk: Desk, asking: Asking, schema: Schema, new: Collection, old: Collection | None) -> None:
    """Check all of a view but its fields and rules, before it is made. Raises ValidationFailed."""
    others = tuple([each for each in schema.collections if old is None or each.id != old.id])
    asked = replace(asked_by(asking, (*others, new), desk.random), rule=lambda _collection, _text: None)
    found = {key: each for key, each in checks.problems(new, old, schema, asked).items() if key != "fields"}
    if "viewQuery" in found:
        found = _without_fields(desk, asking, schema, new, old)
    if found:
        raise ValidationFailed(found)


def _without_fields(
    desk: Desk, asking: Asking, schema: Schema, new: Collection, old: Collection | None
) -> dict[str, Problem | Problems]:
    blank = replace(new, fields=())
    others = tuple([each for each in schema.collections if old is None or each.id != old.id])
    return dict(checks.problems(blank, old, schema, asked_by(asking, (*others, blank), desk.random)))


def asked_by(asking: Asking, collections: Sequence[Collection], random: Random) -> Asked:
    """Give what checks ask of filters and fields, with these collections."""
    compiler = Compiler(Schema(tuple(collections)))

    def rule(collection: Collection, text: str) -> str | None:
        try:
            compiler.check(collection, text, RequestInfo(), asking.now)
        except FilterError as error:
            return error.message
        return None

    def generate(pattern: str) -> str | None:
        try:
            return from_pattern(pattern, random)
        except PatternError:
            return None

    return Asked(rule=rule, pattern=_is_pattern, generate=generate, takes=_takes, providers=PROVIDERS)


def _is_pattern(text: str) -> bool:
    try:
        matcher(text)
    except PatternError:
        return False
    return True


def _takes(field: TextField, value: str) -> bool:
    return ops(field).check(value) is None


async def run(transaction: Transaction, collection: Collection, statements: Sequence[Statement]) -> None:
    """Run the statements of a change; what the database refuses is told as the index' or the query's fault."""
    for statement in statements:
        try:
            await transaction.execute(statement.sql, statement.args)
        except SqlError as error:
            raise _refusal(error, collection, statement) from error


def _refusal(error: SqlError, collection: Collection, statement: Statement) -> Exception:
    if "INDEX" in statement.sql[:20]:
        made = [ddl.create_index(collection, each).sql for each in collection.indexes]
        return checks.index_refused(made.index(statement.sql) if statement.sql in made else 0, error.message)
    return bad_request(f"The collection cannot be saved: {error.message}.")


async def _row_of(transaction: Transaction, collection: Collection) -> Sequence[Any]:
    names = ", ".join(quote(name) for name in rows.COLUMNS)
    found = await transaction.query(f"SELECT {names} FROM `_collections` WHERE `id` = ?", (collection.id,))
    return found[0]


async def _touch(transaction: Transaction, moment: str) -> None:
    """Make the removal of a row visible to who looks at the newest `updated`."""
    sql = "UPDATE `_collections` SET `updated` = ? WHERE `rowid` = (SELECT min(`rowid`) FROM `_collections`)"
    await transaction.execute(sql, (moment,))
