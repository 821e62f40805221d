"""Lets streams that have something to send do so, some at a time.

A change that thousands hear of must not keep everything else of the process waiting until it is written to all of them;
and while they have their turns, later changes join what waits for them, which then takes one write instead of several.
`room` keeps whoever hands out changes from running far ahead of that. Not here: what is sent (`clients`), network.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from pando import limits

AT_ONCE: Final = 64
"""Streams that write in one turn of the event loop: some 2 ms."""


class Waking:
    """The streams of one process that wait for their turn; none waits twice."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon`: the event loop's."""
        self._call_soon = call_soon
        self._queue: deque[asyncio.Event] = deque()
        self._queued: set[asyncio.Event] = set()
        self._asked = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, ready: asyncio.Event) -> None:
        """Set this event when its turn comes."""
        self._asked += 1
        if ready in self._queued:
            return
        if not self._queue:
            self._idle.clear()
            self._call_soon(self._turn)
        self._queued.add(ready)
        self._queue.append(ready)

    async def room(self) -> None:
        """Return when not much is ahead of the streams that wait."""
        if self._asked > limits.REALTIME_AHEAD_EVENTS_MAX:
            await self._idle.wait()

    def _turn(self) -> None:
        for _ in range(min(AT_ONCE, len(self._queue))):
            ready = self._queue.popleft()
            self._queued.discard(ready)
            ready.set()
        if self._queue:
            self._call_soon(self._turn)
        else:
            self._asked = 0
            self._idle.set()
