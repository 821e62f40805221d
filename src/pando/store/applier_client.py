"""The store's side of the applier: requests with answers, and notices that are handed on.

While the applier is away (it was killed; the supervisor starts it again) requests fail with NotReady, and what is
open is opened again by the owner when `on_connected` is called. Not here: what the applier does
(`pando.store.applier`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pando.errors import CorruptionError, NotReady, PandoError, StorageError, StorageFull, invariant
from pando.store import applier_protocol as wire
from pando.store.link import Link, LinkEnd

Notice = wire.Applied | wire.Diverged | wire.ForeignWrite | wire.ApplyStalled
REQUESTS_MAX = 10_000
T = TypeVar("T")


class ApplierClient:
    """Talks to the applier over its link; one per store process."""

    def __init__(self, *, on_notice: Callable[[Notice], None], on_connected: Callable[[], None]) -> None:
        self._on_notice = on_notice
        self._on_connected = on_connected
        self._link: Link | None = None
        self._number = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._pinned: dict[int, asyncio.Future[None]] = {}

    @property
    def is_connected(self) -> bool:
        """Whether the applier is there."""
        return self._link is not None and self._link.is_open

    def attach(self, link: Link) -> None:
        """A new applier has connected."""
        self._link = link
        self._on_connected()

    def detach(self, link: Link, end: LinkEnd) -> None:
        """The applier is gone; what was asked of it failed."""
        if link is not self._link:
            return
        self._link = None
        error = NotReady(f"the applier process ended ({end}); it is started again")
        pending, self._pending = self._pending, {}
        pinned, self._pinned = self._pinned, {}
        for future in (*pending.values(), *pinned.values()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # looked at: a waiter that is gone must not make noise

    def close(self) -> None:
        """End the link: the store stops."""
        if self._link is not None:
            self._link.close("the store stops")

    def receive(self, messages: list[Any]) -> None:
        """Treat what the applier says."""
        for message in messages:
            if isinstance(message, Notice):
                self._on_notice(message)
            elif isinstance(message, wire.SnapshotPinned):
                pinned = self._pinned.pop(message.id, None)
                if pinned is not None and not pinned.done():
                    pinned.set_result(None)
            elif isinstance(message, wire.JobFailed):
                self._fail(message)
            else:
                future = self._pending.pop(message.id, None)
                if future is not None and not future.done():
                    future.set_result(message)

    def _fail(self, message: wire.JobFailed) -> None:
        error = _error_of(message)
        for future in (self._pending.pop(message.id, None), self._pinned.pop(message.id, None)):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()

    def next_id(self) -> int:
        """Give a fresh request number."""
        self._number += 1
        return self._number

    def notify(self, message: wire.ApplyTo) -> None:
        """Tell the applier something that has no answer; lost when it is away (it is told again when it opens)."""
        if self._link is not None:
            self._link.send(message)

    async def ask(self, message: Any, answer: type[T]) -> T:  # noqa: ANN401 - any request of the union
        """Send a request and wait for its answer; raises PandoError."""
        future = self._send(message)
        found = await future
        invariant(isinstance(found, answer), "the applier gave an answer of another kind", found=type(found).__name__)
        return cast("T", found)

    def start(self, message: wire.WriteSnapshot | wire.Scan) -> tuple[asyncio.Future[None], asyncio.Future[Any]]:
        """Send a request that first pins what it reads: gives (pinned, finished). Raises NotReady."""
        finished = self._send(message)
        pinned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pinned[message.id] = pinned
        return pinned, finished

    def _send(self, message: Any) -> asyncio.Future[Any]:  # noqa: ANN401 - any request of the union
        link = self._link
        if link is None or not link.is_open:
            raise NotReady("the applier process is not there yet; try again in a moment")
        if len(self._pending) >= REQUESTS_MAX:
            raise NotReady("too many requests wait for the applier; try again later")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[message.id] = future
        link.send(message)
        return future


def _error_of(message: wire.JobFailed) -> PandoError:
    text = f"{message.database}: {message.message}"
    if message.retryable:
        return NotReady(text, code=message.code)
    if message.code == StorageFull.code:
        return StorageFull(text)
    if message.code.startswith("STORAGE"):
        return StorageError(text, code=message.code)
    return CorruptionError(text, code=message.code)
