"""Waits until this node shows what was written through it, many waits with one question to the store.

Under load every forwarded write waits for its own commit, and the commits become visible several at a time. So at most
one question per database is under way, for the oldest commit that is waited for; when it is answered, the table of
positions tells who else can go on. Not here: what happens when a wait was in vain (`pando.sql.service`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

from pando.clock import Clock
from pando.errors import PandoError

Place = tuple[int, int]
"""(epoch, txid)."""
_Waiting = list[tuple[Place, int, float, asyncio.Future[bool]]]
"""A heap: place, order of arrival, deadline, who waits."""


class Asked(Protocol):
    """Asks the store of this node; see `pando.sql.store_client.StoreClient`."""

    async def wait_position(self, database: str, epoch: int, txid: int, timeout_s: float) -> None:
        """Return once this node shows the commit; raises PandoError."""
        ...


class Visibility:
    """The waits of one web process. As many as there are requests under way."""

    def __init__(self, store: Asked, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()

    async def until(self, database: str, place: Place, visible: Callable[[], Place], timeout_s: float) -> bool:
        """Wait until the database shows a commit; False: not within that time, or the store could not say.

        `visible` reads what it shows now from the table of positions.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        waiting = self._waiting.get(database)
        item = (place, next(self._numbers), self._clock.monotonic() + timeout_s, waiter)
        if waiting is None:
            self._waiting[database] = [item]
            task = loop.create_task(self._ask(database, visible))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            heapq.heappush(waiting, item)
        return await waiter

    async def _ask(self, database: str, visible: Callable[[], Place]) -> None:
        waiting = self._waiting[database]
        try:
            while waiting:
                place, _, deadline, _ = waiting[0]
                left = deadline - self._clock.monotonic()
                reached = left > 0 and await self._is_reached(database, place, left)
                _settle(waiting, place if reached else None, visible(), self._clock.monotonic())
                while waiting and waiting[0][3].done():
                    heapq.heappop(waiting)
        finally:
            del self._waiting[database]
            for *_, waiter in waiting:  # only after an error that nobody expected
                if not waiter.done():
                    waiter.set_result(False)

    async def _is_reached(self, database: str, place: Place, timeout_s: float) -> bool:
        try:
            await self._store.wait_position(database, *place, timeout_s)
        except PandoError:
            return False
        return True


def _settle(waiting: _Waiting, reached: Place | None, visible: Place, now: float) -> None:
    """Tell everybody up to what is shown. If the oldest was not reached, it is told so, with all whose time is over."""
    shown = visible if reached is None else max(visible, reached)
    is_first = True
    for place, _, deadline, waiter in waiting:
        if not waiter.done():
            if place <= shown:
                waiter.set_result(True)
            elif deadline <= now or (is_first and reached is None):
                waiter.set_result(False)
        is_first = False
