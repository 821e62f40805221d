"""A few threads for work that would hold up the event loop, with a bound on how many callers may wait for one.

For functions that let other threads run while they work (bcrypt, pillow, file calls). A function that was started runs
to its end, also when its caller has gone: its thread is counted as busy until then.
Not here: reads of SQLite, which can be stopped (`pando.sql.readers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from pando.errors import Overloaded, invariant

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Workers:
    """Runs functions in at most `threads` threads; `waiting_max` callers may wait, each at most `wait_s` seconds."""

    def __init__(self, name: str, *, threads: int, waiting_max: int, wait_s: float | None = None) -> None:
        invariant(threads > 0 and waiting_max >= 0, "workers have a thread", threads=threads, waiting_max=waiting_max)
        self._name = name
        self._threads = threads
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(threads)
        self._waiting = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def waiting(self) -> int:
        """How many callers wait for a thread."""
        return self._waiting

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Give what the function gives, raise what it raises, and Overloaded if too many wait or the wait was too long.

        A caller that is cancelled while it waits leaves nothing behind.
        """
        await self._take_slot()
        try:
            done = asyncio.get_running_loop().run_in_executor(self._threads_started(), function, *arguments)
        except RuntimeError:
            self._slots.release()
            raise
        done.add_done_callback(self._give_slot_back)
        return await asyncio.shield(done)

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        if self._waiting >= self._waiting_max:
            raise Overloaded(f"{self._waiting} requests wait for {self._name}; try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Overloaded(f"waited {self._wait_s} s for {self._name}; try again later") from error
        finally:
            self._waiting -= 1

    def _give_slot_back(self, done: asyncio.Future[Result]) -> None:
        self._slots.release()
        if not done.cancelled():
            done.exception()  # seen: its caller may have gone

    def _threads_started(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=f"pando-{self._name}")
        return self._pool

    def close(self) -> None:
        """Take no more; threads end with what they are doing."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
