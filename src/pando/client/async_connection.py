"""`pando.aconnect`: the connection of `pando.client.connection` for asyncio, call for call.

Tasks may share a connection: calls wait for each other. A call that is cancelled stops at once for its caller. Inside
of a transaction what was sent is then heard out in the background and the transaction rolled back, so that it does not
hold the writer; the next call waits for that. Not here: what is sent (`pando.client.session`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, TypeVar

from pando.client import exceptions
from pando.client.async_transport import AsyncTransport
from pando.client.batching import execute_many
from pando.client.connection import set_autocommit, set_isolation
from pando.client.cursors import CursorState, RowFactory
from pando.client.exceptions import ProgrammingError
from pando.client.judging import Send
from pando.client.session import Outcome, Session, Steps
from pando.client.sharing import bookmarks_of, nodes_of
from pando.client.targets import Target
from pando.client.values import Parameters
from pando.clock import Clock, SystemClock, system_random

T = TypeVar("T")


class AsyncConnection:
    """A connection; made by `pando.aconnect`. `async with` commits, or rolls back, and leaves it open."""

    def __init__(self, target: Target, *, clock: Clock | None = None) -> None:
        now = (clock or SystemClock()).monotonic
        self.row_factory: RowFactory | None = None
        """Given to new cursors: makes rows out of tuples, as `pando.client.Row` does."""
        self._bookmarks = bookmarks_of(target.nodes, share=target.share)
        self._session = Session(target, nodes_of(target.nodes), self._bookmarks, now, system_random())
        self._transport = AsyncTransport(target.connect_timeout_s)
        self._lock = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None
        self._is_closed = False

    def cursor(self) -> AsyncCursor:
        """Make a cursor."""
        self._check()
        return AsyncCursor(self)

    async def commit(self) -> None:
        """Commit the open transaction, if there is one. Raises OutcomeUnknown when the answer is lost."""
        await self._run(self._session.commit)

    async def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        await self._run(self._session.rollback)

    async def close(self) -> None:
        """Roll back what is open and close; further calls do nothing."""
        if self._is_closed:
            return
        try:
            await self._run(self._session.rollback)
        finally:
            self._is_closed = True
            await self._transport.close()

    def terminate(self) -> None:
        """Close without telling the node; it rolls back what is open after a while."""
        self._is_closed = True
        self._transport.drop()

    @property
    def target(self) -> Target:
        """Where this connection goes, and its options."""
        return self._session.target

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or lost and not rolled back yet."""
        return self._session.in_transaction

    @property
    def bookmark(self) -> str:
        """The newest commit that this connection has seen, to be handed to other programs; empty before."""
        return self._bookmarks.of(self.target.database)

    def add_bookmark(self, bookmark: str) -> None:
        """See from now on what another program has seen."""
        self._bookmarks.note(bookmark)

    @property
    def autocommit(self) -> bool:
        """True: each statement by itself. False: the first write begins a transaction."""
        return self._session.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        set_autocommit(self._session, value)

    @property
    def isolation(self) -> str:
        """READ COMMITTED (reads before the first write stand alone) or SERIALIZABLE (reads begin the transaction)."""
        return self._session.isolation

    @isolation.setter
    def isolation(self, value: str) -> None:
        set_isolation(self._session, value)

    async def execute(self, sql: str, parameters: Parameters = ()) -> AsyncCursor:
        """Run one statement with a cursor of its own, and give that."""
        return await self.cursor().execute(sql, parameters)

    async def executemany(self, sql: str, rows: Iterable[Parameters]) -> AsyncCursor:
        """Run a statement for each row of parameters with a cursor of its own, and give that."""
        return await self.cursor().executemany(sql, rows)

    async def executescript(self, sql: str) -> AsyncCursor:
        """Commit, then run all statements of a text."""
        return await self.cursor().executescript(sql)

    async def begin(self, *, read_only: bool = False) -> None:
        """Begin a transaction now: one that holds the writer, or one that reads one moment of a node."""
        await self._run(lambda: self._session.begin(read_only=read_only))

    @contextlib.asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction for an `async with` block: commit at its end, roll back when it raises."""
        await self.begin(read_only=read_only)
        async with self:
            yield self

    async def __aenter__(self) -> AsyncConnection:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                await self.commit()
            except exceptions.Error:
                await self.rollback()
                raise
        elif not self._is_closed:
            await self.rollback()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._is_closed:
            raise ProgrammingError("the connection is closed; open another one")

    async def _run(self, call: Callable[[], Steps[T]]) -> T:
        """Carry a call of the session out; see the module for what cancelling does."""
        async with self._lock:
            if self._ending is not None:
                await asyncio.shield(self._ending)
                self._ending = None
            self._check()
            was_open = self._session.in_transaction
            steps = call()
            outcome: Outcome = None
            try:
                while True:
                    wish = steps.send(outcome)
                    if not isinstance(wish, Send):
                        await asyncio.sleep(wish.seconds)
                        outcome = None
                    elif wish.is_heard_out:
                        outcome = await self._hear_out(steps, wish, was_open=was_open)
                    else:
                        outcome = await self._transport.send(wish)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                if self._ending is None:
                    steps.close()

    async def _hear_out(self, steps: Steps[T], wish: Send, *, was_open: bool) -> Outcome:
        """Send what concerns a transaction; when the caller is cancelled meanwhile, its end is left to a task."""
        sending = asyncio.ensure_future(self._transport.send(wish))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._ending = asyncio.ensure_future(self._roll_back_after(steps, sending, was_open=was_open))
            raise

    async def _roll_back_after(self, steps: Steps[Any], sending: asyncio.Future[Any], *, was_open: bool) -> None:
        """Let the call end as it would have, then roll the transaction back."""
        outcome: Outcome = await sending
        with contextlib.suppress(StopIteration, exceptions.Error):
            while True:
                wish = steps.send(outcome)
                if not isinstance(wish, Send):
                    break  # it was to be tried again: nothing is open
                outcome = await self._transport.send(wish)
        steps.close()
        ending = self._session.give_up("a call was cancelled", is_loss=was_open)
        with contextlib.suppress(StopIteration):
            wish = next(ending)
            while isinstance(wish, Send):
                wish = ending.send(await self._transport.send(wish))


class Opening:
    """What `pando.aconnect` gives: awaited, or entered, it is the connection; leaving the block closes that."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: AsyncConnection | None = None

    def __await__(self) -> Generator[Any, None, AsyncConnection]:
        return self._open().__await__()

    async def _open(self) -> AsyncConnection:
        return AsyncConnection(self._target)

    async def __aenter__(self) -> AsyncConnection:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        if connection is not None and not connection._is_closed:
            try:
                await connection.__aexit__(kind, error, trace)
            finally:
                await connection.close()


class AsyncCursor(CursorState):
    """Runs statements and holds the rows of the last one. `async for` gives the rows that are left."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection.row_factory)
        self.connection = connection

    async def execute(self, sql: str, parameters: Parameters = (), /) -> AsyncCursor:
        """Run one statement; gives the cursor itself."""
        self._check()
        self._take(await self.connection._run(lambda: self.connection._session.execute(sql, parameters)))
        return self

    async def executemany(self, sql: str, rows: Iterable[Parameters], /) -> AsyncCursor:
        """Run a statement that writes once for each row; all take effect or none, unless a transaction was open."""
        self._check()
        self._take(await self.connection._run(lambda: execute_many(self.connection._session, sql, rows)))
        return self

    async def executescript(self, sql: str, /) -> AsyncCursor:
        """Commit, then run all statements of a text."""
        self._check()
        await self.connection._run(lambda: self.connection._session.script(sql))
        return self

    async def fetchone(self) -> Any:  # noqa: ANN401 - what row_factory makes
        """Give the next row, None after the last."""
        return self._one()

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Give the next rows, `arraysize` of them unless said otherwise."""
        return self._several(self.arraysize if size is None else size)

    async def fetchall(self) -> list[Any]:
        """Give all rows that are left."""
        return self._several(None)

    async def close(self) -> None:
        """Forget the rows; the cursor cannot be used again."""
        self._close()

    def __aiter__(self) -> AsyncCursor:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        self._check()
        if self._next >= len(self._result.rows):
            raise StopAsyncIteration
        return self._one()

    async def __aenter__(self) -> AsyncCursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
