"""What the front needs to stop in order: who has no end of their own is told, and last words are read.

Not here: when each connection ends (`pando.node.front_server`), the words (`pando.node.ending`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Stopping:
    """Whether the front stops, and who waits for that."""

    def __init__(self) -> None:
        self.is_set = False
        self._endless: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """The front stops: end what has no end."""
        self.is_set = True
        for limit in self._endless:
            limit.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def ends(self) -> AsyncIterator[None]:
        """Break off what is inside when the front stops; nobody hears of that."""
        try:
            async with asyncio.timeout(0 if self.is_set else None) as limit:
                self._endless.add(limit)
                try:
                    yield
                finally:
                    self._endless.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise


class Lingering(asyncio.Protocol):
    """A connection on which the last words were said: what still comes in is thrown away, and its end is waited for.

    Closed at once, what the client sends meanwhile would be answered by a reset, which can wipe the words out.
    """

    def __init__(self, transport: asyncio.Transport, lingering: set[Lingering]) -> None:
        self._transport = transport
        self._lingering = lingering
        lingering.add(self)
        transport.set_protocol(self)

    def say(self, words: bytes) -> None:
        """Say the last words, and close for sending."""
        self._transport.write(words)
        self._transport.write_eof()
        self._transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the transport."""
        self._lingering.discard(self)

    @property
    def has_unsent(self) -> bool:
        """Whether the kernel has not yet taken all of the last answer and the words."""
        return self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """Wait no longer."""
        self._transport.abort()
