"""Making, changing and removing collections, on the primary, each in one transaction with its tables.

The definitions are read again inside the transaction, so that two changes at once never build on the same old state.
Whatever changes a row of `_collections` gives it an `updated` later than all others: processes see by it that there is
something new (`schema_cache`). Not here: what a definition may be (`collections`), records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random  # noqa: TID251 - only the type; the generator is passed in
from typing import Any, Final

from pando.errors import SqlError
from pando.records.collections import bodies, checks, ddl, rows
from pando.records.collections.asking import Asked
from pando.records.collections.completing import complete
from pando.records.collections.sql_tokens import quote
from pando.records.deleting import delete_in
from pando.records.desk import Asking, Desk, find_all
from pando.records.engine import Statement, Transaction
from pando.records.fields import dates, ops
from pando.records.fields.autogenerate import from_pattern
from pando.records.fields.matching import matcher
from pando.records.fields.patterns import PatternError
from pando.records.filter import Compiler, FilterError, RequestInfo
from pando.records.model import Collection, Schema, TextField
from pando.records.problems import bad_request, not_found
from pando.records.setup import column_sql

PROVIDERS: Final = frozenset(
    (
        *("apple", "bitbucket", "box", "discord", "facebook", "gitea", "gitee", "github", "gitlab", "google"),
        *("instagram2", "kakao", "lark", "linear", "livechat", "mailcow", "microsoft", "monday", "notion", "oidc"),
        *("oidc2", "oidc3", "patreon", "planningcenter", "spotify", "strava", "trakt", "twitch", "twitter", "vk"),
        *("wakatime", "yandex"),
    )
)
"""OAuth2 providers that a collection may name."""
SortKey = Callable[[Collection], Any]
TRUNCATE_STEP: Final = 500


async def create_collection(desk: Desk, asking: Asking, body: object) -> Collection:
    """Make a collection. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        draft = bodies.read_new(body, desk.random)
        no_view(draft)
        new = complete(draft, None, schema, desk.random, next_moment(asking, schema))
        await check(desk, asking, schema, new, None)
        await run(transaction, new, ddl.create(new, column_sql))
    return new


async def update_collection(desk: Desk, asking: Asking, reference: str, body: object) -> Collection:
    """Change a collection. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        old = found_in(schema, reference)
        draft = bodies.read_change(body, old)
        no_view(draft)
        new = complete(draft, old, schema, desk.random, next_moment(asking, schema))
        await check(desk, asking, schema, new, old)
        views = [each for each in schema.collections if each.is_view and each.id != old.id]
        previous = await _row_of(transaction, old)
        await run(transaction, new, ddl.change(old, new, column_sql, views=views, previous=previous))
        await _try_views(transaction, views)
    return new


async def delete_collection(desk: Desk, asking: Asking, reference: str) -> None:
    """Remove a collection with its records. Raises ApiError."""
    async with desk.engine.transaction() as transaction:
        schema = await load_schema(transaction)
        old = found_in(schema, reference)
        checks.check_removable(old, schema)
        await run(transaction, old, ddl.delete(old))
        await _touch(transaction, next_moment(asking, schema))
        await _try_views(transaction, [each for each in schema.collections if each.is_view and each.id != old.id])


async def truncate_collection(desk: Desk, asking: Asking, reference: str) -> None:
    """Delete all records of a collection with what refers to them. Raises ApiError."""
    collection = asking.collection(reference)
    if collection.is_view:
        raise bad_request("View collections cannot be truncated.")
    async with desk.engine.transaction() as transaction:
        while True:
            found = await find_all(transaction, collection, f"1 LIMIT {TRUNCATE_STEP}", ())
            for record in found:
                await delete_in(transaction, asking.schema, record)
            if len(found) < TRUNCATE_STEP:
                return


def no_view(draft: Collection) -> None:
    """Refuse view collections: finding out their fields is not there yet."""
    if draft.is_view:
        raise bad_request("View collections cannot be made or changed yet.")


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
    if collection.is_view and any("CREATE VIEW" in each.sql for each in statements):
        await _try_views(transaction, [collection])


def _refusal(error: SqlError, collection: Collection, statement: Statement) -> Exception:
    if "INDEX" in statement.sql[:20]:
        made = [ddl.create_index(collection, each).sql for each in collection.indexes]
        return checks.index_refused(made.index(statement.sql) if statement.sql in made else 0, error.message)
    if collection.is_view:
        return checks.view_refused(error.message)
    return bad_request(f"The collection cannot be saved: {error.message}.")


async def _try_views(transaction: Transaction, views: Sequence[Collection]) -> None:
    """Read each view once: SQLite finds out only then that a query cannot be run."""
    for view in views:
        try:
            await transaction.query(f"SELECT * FROM {quote(view.name)} LIMIT 1")
        except SqlError as error:
            raise checks.view_refused(f"{view.name}: {error.message}") from error


async def _row_of(transaction: Transaction, collection: Collection) -> Sequence[Any]:
    names = ", ".join(quote(name) for name in rows.COLUMNS)
    found = await transaction.query(f"SELECT {names} FROM `_collections` WHERE `id` = ?", (collection.id,))
    return found[0]


async def _touch(transaction: Transaction, moment: str) -> None:
    """Make the removal of a row visible to who looks at the newest `updated`."""
    sql = "UPDATE `_collections` SET `updated` = ? WHERE `rowid` = (SELECT min(`rowid`) FROM `_collections`)"
    await transaction.execute(sql, (moment,))
