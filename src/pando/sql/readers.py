"""Read-only connections of a web process: one per database for the event loop, a few for threads.

Short reads run on the event loop under a time budget; what exceeds it runs again in a thread. The connections see what
the store (primary) or applier (replica) committed to the file. Not here: whether a pipeline may run here at all (see
`pando.sql.routing`), freshness (see `pando.sql.freshness`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apsw

from pando import limits
from pando.clock import Clock
from pando.errors import Overloaded
from pando.sql.store_client import Positions, StoreClient
from pando.store.protocol import Opened
from pando.store.reading import BUSY_INLINE_MS, BUSY_THREAD_MS, Cancel, Reader, ReadOptions, too_slow
from pando.store.requests import Request, Result
from pando.store.runner import Interrupted

Watch = Callable[[], Awaitable[object]]
"""Returns when the client is gone."""


class DatabaseReads:
    """The connections to one database."""

    def __init__(self, opened: Opened, clock: Clock, options: ReadOptions | None = None) -> None:
        self.opened = opened
        self._options = options
        self.inline = Reader(opened.path, clock, busy_ms=BUSY_INLINE_MS, options=options)
        self._clock = clock
        self._idle: list[Reader] = []
        self._is_closed = False

    def take(self) -> Reader:
        """Give a connection for a thread or a transaction; `give_back` it."""
        if self._idle:
            return self._idle.pop()
        return Reader(self.opened.path, self._clock, busy_ms=BUSY_THREAD_MS, options=self._options)

    def give_back(self, reader: Reader) -> None:
        """Take a connection back, its transaction rolled back."""
        try:
            reader.roll_back()
        except apsw.Error:  # the file or the memory failed: a new connection will say how
            reader.close()
            return
        if self._is_closed or len(self._idle) >= limits.SLOW_READS_MAX:
            reader.close()
        else:
            self._idle.append(reader)

    def close(self) -> None:
        """Close what is idle; the rest closes when it comes back."""
        self._is_closed = True
        self.inline.close()
        while self._idle:
            self._idle.pop().close()


@dataclass(slots=True, eq=False)
class Held:
    """A connection with a read transaction that stays open between requests."""

    reader: Reader
    home: DatabaseReads
    since: float
    may_write: bool = False
    """Its client may go on to write, which it can as long as nobody else has."""
    position: tuple[int, int] | None = None
    """(epoch, txid) of the commit that it shows; None if that cannot be said."""

    def release(self) -> None:
        """End the transaction and give the connection back."""
        self.home.give_back(self.reader)


class ReadPool:
    """The databases that this process has open for reading, and the threads for long reads."""

    def __init__(
        self, store: StoreClient, positions: Positions, clock: Clock, options: ReadOptions | None = None
    ) -> None:
        self._options = options
        self._store = store
        self._positions = positions
        self._clock = clock
        self._open: OrderedDict[str, DatabaseReads] = OrderedDict()
        self._opening: dict[str, asyncio.Lock] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._slots = asyncio.Semaphore(limits.SLOW_READS_MAX)
        self._waiting = 0
        self.running = 0
        """Long reads in threads now."""

    def ready(self, name: str) -> DatabaseReads | None:
        """Give the connections to a database if they are open and still to the right file."""
        reads = self._open.get(name)
        if reads is None or self._positions.generation(reads.opened.slot) != reads.opened.generation:
            return None
        self._open.move_to_end(name)
        return reads

    async def open(self, name: str) -> DatabaseReads:
        """Give the connections, asking the store where the database is if need be. Raises UnknownDatabase, NotReady."""
        lock = self._opening.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                reads = self.ready(name)
                if reads is None:
                    reads = DatabaseReads(await self._store.open_database(name), self._clock, self._options)
                    self._put(name, reads)
        finally:
            if not lock.locked():
                self._opening.pop(name, None)
        return reads

    def _put(self, name: str, reads: DatabaseReads) -> None:
        old = self._open.pop(name, None)
        if old is not None:
            old.close()
        self._open[name] = reads
        if len(self._open) > limits.OPEN_DATABASES_MAX:
            self._open.popitem(last=False)[1].close()

    def forget(self, name: str) -> None:
        """Close a database, for example since it was deleted."""
        reads = self._open.pop(name, None)
        if reads is not None:
            reads.close()

    async def run_slow(self, reader: Reader, requests: Sequence[Request], watch: Watch | None) -> list[Result]:
        """Run requests in a thread on a connection that nobody else uses.

        Stops when `watch` returns: nobody waits any more. Raises Overloaded, StatementTimeout, InvalidRequest.
        """
        if self._waiting >= limits.SLOW_READS_QUEUE_MAX:
            raise Overloaded(f"{self._waiting} long reads wait for a thread; try again later")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            self.running += 1
            return await self._in_thread(reader, requests, watch)
        finally:
            self.running -= 1
            self._slots.release()

    async def _in_thread(self, reader: Reader, requests: Sequence[Request], watch: Watch | None) -> list[Result]:
        """Wait for the thread even when cancelled: it uses the connection until it ends."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(limits.SLOW_READS_MAX, thread_name_prefix="pando-read")
        cancel = Cancel()
        done = asyncio.get_running_loop().run_in_executor(self._threads, reader.run_cancellable, requests, cancel)
        gone = None if watch is None else asyncio.ensure_future(watch())
        waiting: list[asyncio.Future[Any]] = [done] if gone is None else [done, gone]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            cancel.value = not done.done()
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            cancel.value = True
            await _settled(done)
            raise
        except Interrupted as stopped:
            raise too_slow(stopped) from stopped
        finally:
            if gone is not None:
                gone.cancel()

    def close(self) -> None:
        """Close everything."""
        while self._open:
            self._open.popitem()[1].close()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


async def _settled(done: asyncio.Future[list[Result]]) -> None:
    """Wait for a thread to end, however often this task is cancelled meanwhile."""
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            continue
    done.exception()
