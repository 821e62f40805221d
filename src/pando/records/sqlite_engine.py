"""`Engine` on SQLite: reads on a web process's own connections, writes and transactions through its links.

A batch of writes is one command of the primary's group commit; a transaction is a session of the primary's writer,
which others wait for, so it must be short. Not here: which of the two a change needs (`pando.records.writing`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from pando import limits
from pando.errors import SqlError, invariant
from pando.records.engine import Basis, Place, Refused, Row, Statement, Value, Written
from pando.records.sqlite_transaction import SqliteTransaction, error_of, written_of
from pando.sql import basis as sql_basis
from pando.sql.service import Call, SqlService
from pando.store import requests as store
from pando.types import Bookmark, Durability

_BEGIN = store.Step(store.Statement("BEGIN IMMEDIATE", want_rows=False))


class SqliteEngine:
    """One database of this node. `durability`: by default writes wait until every replica that keeps up shows them,
    since PocketBase's clients carry no bookmarks and may read anywhere a moment later. Readers that are later than
    `late_s` are better served by the primary, whose writes do not wait for this node then."""

    def __init__(
        self,
        service: SqlService,
        database: str,
        *,
        durability: Durability = Durability.ALL,
        late_s: float = limits.SHOWN_WAIT_S,
    ) -> None:
        self._service = service
        self._database = database
        self._call = Call(database, durability=durability)
        self._late_s = late_s
        self._position: Bookmark | None = None
        self._bases = service.bases(database)

    @property
    def is_primary(self) -> bool:
        """Whether writes happen on this node."""
        return self._service.is_primary

    @property
    def position(self) -> Bookmark | None:
        """What a read that ends now has seen at most, or what was written last; None before the first read."""
        seen = self._service.seen(self._database)
        wrote = self._position
        if seen is None or wrote is None:
            return seen or wrote
        return wrote if (wrote.epoch, wrote.txid) > (seen.epoch, seen.txid) else seen

    @property
    def is_late(self) -> bool:
        """Whether this node has known of newer data for long without showing them."""
        return self._service.late_s(self._database) > self._late_s

    def reads(self) -> SqliteEngine:
        """Read what this node shows."""
        return self

    def reading(self) -> SqliteReading:
        """The same, and remember what was read."""
        return SqliteReading(self, self._bases.reading())

    def holds(self, basis: Basis) -> bool:
        """Tell whether what was read then would be read now."""
        return self._bases.holds(cast("sql_basis.Basis", basis))

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows. Raises SqlError and the errors of the node."""
        request = store.Execute(store.Statement(sql, tuple(args)))
        results = await self._service.read(self._database, (request,))
        return written_of(results[0]).rows

    @property
    def is_alone(self) -> bool:
        """Others may write at any moment."""
        return False

    def reads_of(self, _table: str, _ids: Sequence[str]) -> SqliteEngine:
        """Read what this node shows."""
        return self

    async def put(self, statements: Sequence[Statement], refused: Refused, _place: Place) -> None:
        """Run statements whose results nobody needs. Raises what `refused` makes of SQLite's error."""
        try:
            await self.write(statements)
        except SqlError as error:
            raise refused(error) from error

    async def write(self, statements: Sequence[Statement], place: Place | None = None) -> list[Written]:
        """Run statements in one transaction, all or nothing. Raises SqlError of the first that failed."""
        if len(statements) == 1:
            results, bookmark = await self._service.write((_execute(statements[0]),), self._call)
            self._note(bookmark)
            return [written_of(results[0])]
        results, bookmark = await self._service.write((_atomic(statements),), self._call)
        self._note(bookmark)
        batch = results[0]
        if isinstance(batch, store.Failure):
            raise error_of(batch)
        invariant(isinstance(batch, store.BatchResult), "a batch gives a batch", result=type(batch).__name__)
        return _steps_of(cast("store.BatchResult", batch), len(statements))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteTransaction]:
        """Open a transaction on the primary; it is committed on exit, rolled back on an exception."""
        stream = self._service.attach(self._database)
        try:
            here = self if self._service.is_primary else None
            transaction = SqliteTransaction(self._service, stream, self._call, here, self._bases)
            try:
                await transaction.begin()
                yield transaction
                await transaction.commit()
                self._note(transaction.position)
            finally:
                await transaction.close()
        finally:
            self._service.detach(stream)  # rolls back what is still open

    def _note(self, bookmark: Bookmark | None) -> None:
        if bookmark is not None:
            self._position = bookmark


class SqliteReading:
    """Reads of one answer."""

    __slots__ = ("_engine", "_reading")

    def __init__(self, engine: SqliteEngine, reading: sql_basis.Reading) -> None:
        self._engine = engine
        self._reading = reading

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows. Raises SqlError and the errors of the node."""
        rows = await self._engine.query(sql, args)
        self._reading.note(sql)
        return rows

    def include(self, basis: Basis | None) -> None:
        """Something read earlier is part of the answer."""
        self._reading.include(cast("sql_basis.Basis | None", basis))

    def basis(self) -> Basis | None:
        """Give what was read so far."""
        return self._reading.basis()


def _execute(statement: Statement) -> store.Execute:
    return store.Execute(store.Statement(statement.sql, statement.args))


def _atomic(statements: Sequence[Statement]) -> store.Batch:
    """BEGIN, each statement if the one before it succeeded, COMMIT; ROLLBACK if that was not reached."""
    steps = [_BEGIN]
    for number, statement in enumerate(statements):
        steps.append(store.Step(store.Statement(statement.sql, statement.args), store.StepOk(number)))
    steps.append(store.Step(store.Statement("COMMIT", want_rows=False), store.StepOk(len(statements))))
    unfinished = store.And((store.StepOk(0), store.Not(store.StepOk(len(statements) + 1))))
    steps.append(store.Step(store.Statement("ROLLBACK", want_rows=False), unfinished))
    return store.Batch(tuple(steps))


def _steps_of(batch: store.BatchResult, count: int) -> list[Written]:
    failed = next((error for error in batch.errors if error is not None), None)
    if failed is not None:
        raise error_of(failed)
    return [written_of(result) for result in batch.results[1 : count + 1]]
