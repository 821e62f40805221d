"""A transaction on the primary, from BEGIN to COMMIT, with as few messages to its store as its callers allow.

The transaction holds the write lock, so what it has not written is what this node shows: questions about that are
answered by a web process's own connection. What need not be done at once waits, and goes with the next message. Not
here: who may wait (`pando.records.writing`), opening a stream (`pando.records.sqlite_engine`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from pando.errors import SqlError, invariant
from pando.records.engine import Place, Reads, Refused, Row, Statement, Value, Written
from pando.sql.basis import Bases
from pando.sql.service import Call, SqlService
from pando.sql.streams import Stream
from pando.store import requests as store
from pando.store.feed import FEED_TABLE
from pando.types import Bookmark

AHEAD_MAX: Final = 25
"""Statements that wait; then they are sent, and the store runs them while this process goes on."""
AHEAD_CHARS_MAX: Final = 1 << 20
"""The same for the length of their long arguments."""
_PLAIN: Final = (
    "SELECT 1 FROM sqlite_schema WHERE type = 'trigger'"
    " OR type = 'table' AND (sql LIKE '%conflict%' OR sql LIKE '%references%') LIMIT 1"
)
"""Finds what may make a statement write other rows than those that it names."""


@dataclass(frozen=True, slots=True)
class _Later:
    statement: Statement
    refused: Refused


class SqliteTransaction:
    """One transaction. `here` reads what this node shows, None where that is not what the primary has."""

    def __init__(self, service: SqlService, stream: Stream, call: Call, here: Reads | None, bases: Bases) -> None:
        self._service = service
        self._stream = stream
        self._call = call
        self._here = here
        self._bases = bases
        self._written: dict[str, set[str] | None] = {}
        """Tables that were written to, or will be by what waits, with the ids of the rows; None: any rows."""
        self._is_any_written = False
        self._is_plain: bool | None = None
        self._waiting: list[_Later] = []
        self._chars = 0
        self._under_way: asyncio.Task[list[Written]] | None = None
        self._broken: Exception | None = None
        self.position: Bookmark | None = None

    # -- from BEGIN to COMMIT --

    async def begin(self) -> None:
        """Take the write lock."""
        await self._run([], [Statement("BEGIN IMMEDIATE")])
        self._bases.refresh()

    async def commit(self) -> None:
        """Run what waits, and commit. Raises what was refused, then nothing is committed."""
        await self._send(Statement("COMMIT"))

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    # -- reading --

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows, the transaction's own writes among them."""
        if self._here is not None and self.is_unwritten(sql):
            return await self._here.query(sql, args)
        return (await self._send(Statement(sql, tuple(args))))[0].rows

    def is_unwritten(self, sql: str) -> bool:
        """Tell whether the transaction surely has written to none of the tables that a query reads."""
        if self._is_any_written:
            return False
        info = self._bases.info(sql)
        return info is not None and info.reads is not None and self._written.keys().isdisjoint(info.reads)

    def reads_of(self, table: str, ids: Sequence[str]) -> Reads:
        """Read for a question about nothing but these rows."""
        return _RowReads(self, table, ids)

    async def query_rows(self, table: str, ids: Sequence[str], sql: str, args: Sequence[Value]) -> list[Row]:
        """Give the rows of such a question."""
        if self._here is None or self._is_any_written:
            return await self.query(sql, args)
        if self._is_plain is None:
            self._is_plain = not await self._here.query(_PLAIN)
        rows = self._written.get(table, set())
        if self._is_plain and rows is not None and rows.isdisjoint(ids):
            return await self._here.query(sql, args)
        return await self.query(sql, args)

    # -- writing --

    async def execute(self, sql: str, args: Sequence[Value] = (), place: Place | None = None) -> Written:
        """Run one statement. Raises SqlError: the transaction goes on; other errors: it is lost."""
        self._note(sql, place)
        return (await self._send(Statement(sql, tuple(args))))[0]

    async def later(self, statement: Statement, refused: Refused, place: Place | None = None) -> None:
        """Have a statement run before anything that could tell whether it has."""
        self._note(statement.sql, place)
        self._waiting.append(_Later(statement, refused))
        self._chars += sum([len(arg) for arg in statement.args if isinstance(arg, str | bytes)])
        if len(self._waiting) >= AHEAD_MAX or self._chars >= AHEAD_CHARS_MAX:
            await self._landed()
            self._under_way = asyncio.create_task(self._run(self._take(), ()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # now the message has left

    async def settle(self) -> None:
        """Run what waits."""
        await self._send()

    def _note(self, sql: str, place: Place | None) -> None:
        """Remember what a statement writes."""
        if self._is_any_written:
            return
        info = self._bases.info(sql)
        if info is None or info.changes_schema:
            self._is_any_written = True
        elif not info.is_readonly:
            self._written[FEED_TABLE] = None
            for table in info.tables:
                if place is None or place.table != table:
                    self._written[table] = None
                elif (rows := self._written.setdefault(table, set())) is not None:
                    rows.add(place.id)

    # -- messages --

    async def _send(self, *more: Statement) -> list[Written]:
        """Run what waits, then `more`, and give what these did."""
        await self._landed()
        return await self._run(self._take(), more) if self._waiting or more else []

    async def _landed(self) -> None:
        """Wait for what is under way. Raises what was refused, again and again."""
        task, self._under_way = self._under_way, None
        if task is not None:
            await task
        if self._broken is not None:
            raise self._broken.with_traceback(None)

    def _take(self) -> list[_Later]:
        waiting, self._waiting, self._chars = self._waiting, [], 0
        return waiting

    async def _run(self, waiting: list[_Later], more: Sequence[Statement]) -> list[Written]:
        statements = [*(each.statement for each in waiting), *more]
        request = _one(statements[0]) if len(statements) == 1 else _each_if_the_last(statements)
        result, self.position = await self._service.run_attached_at(self._stream, request, self._call)
        results = _results_of(result) if isinstance(request, store.Batch) else [result]
        for late, each in zip(waiting, results, strict=False):
            if isinstance(each, store.Failure):
                self._broken = late.refused(error_of(each))
                raise self._broken from error_of(each)
        return [written_of(each) for each in results[len(waiting) :]]


class _RowReads:
    """Reads for questions about nothing but some rows of a table."""

    __slots__ = ("_ids", "_table", "_transaction")

    def __init__(self, transaction: SqliteTransaction, table: str, ids: Sequence[str]) -> None:
        self._transaction = transaction
        self._table = table
        self._ids = ids

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows."""
        return await self._transaction.query_rows(self._table, self._ids, sql, args)


def _one(statement: Statement) -> store.Execute:
    return store.Execute(store.Statement(statement.sql, statement.args))


def _each_if_the_last(statements: Sequence[Statement]) -> store.Batch:
    return store.Batch(
        tuple(
            [
                store.Step(store.Statement(each.sql, each.args), store.StepOk(number - 1) if number else None)
                for number, each in enumerate(statements)
            ]
        )
    )


def _results_of(batch: store.Result) -> list[store.Result | None]:
    """Give what came of each statement, up to the first that failed. Raises SqlError if the transaction is lost."""
    if isinstance(batch, store.Failure):
        raise error_of(batch)
    invariant(isinstance(batch, store.BatchResult), "a batch gives a batch", result=type(batch).__name__)
    found = cast("store.BatchResult", batch)
    results: list[store.Result | None] = []
    for result, error in zip(found.results, found.errors, strict=True):
        results.append(error or result)
        if error is not None:
            break
    return results


def written_of(result: store.Result | None) -> Written:
    """Say what a statement did. Raises SqlError if it failed."""
    if isinstance(result, store.Failure):
        raise error_of(result)
    invariant(isinstance(result, store.StatementResult), "a statement gives rows", result=type(result).__name__)
    found = cast("store.StatementResult", result)
    return Written(found.rows, found.affected_row_count)


def error_of(failure: store.Failure) -> SqlError:
    """Give the error that a failure tells of."""
    return SqlError(failure.message, code=failure.code, extended_code=failure.extended_code)
