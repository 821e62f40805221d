"""One site per event loop: what answers requests within this process.

It has a unix socket, as web processes have: for requests that came to another process of the node and are for an event
stream or a transaction which lives here. Not here: what is asked (`pando.embedded.calling`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from pando.api.site import OpenSite, Site
from pando.embedded.attaching import own_lock
from pando.errors import InternalError, NotReady, Overloaded
from pando.log import EventLog
from pando.node.runtime import Runtime
from pando.store.files import FileLock

OPEN_S: Final = 60.0
"""How long the node's store may take to begin."""
READY_S: Final = 60.0
"""How long a start waits for a node that recovers, or becomes a replica; then it goes on without waiting."""
INDEX_FIRST: Final = 1000
"""Indexes below it are those of the node's own web processes."""
INDEXES_MAX: Final = 1000
"""Event loops that use one node at a time."""
POLL_S: Final = 0.02


class Running:
    """A site that answers."""

    def __init__(
        self,
        site: Site,
        open: OpenSite,
        broken: asyncio.Event,
        ending: contextlib.AsyncExitStack,
        locks: Sequence[FileLock],
    ) -> None:
        self.site = site
        self.open = open
        self._broken = broken
        self._ending = ending
        self._locks = locks

    @property
    def is_broken(self) -> bool:
        """Whether a part of it has failed, so that another one must take its place."""
        return self._broken.is_set()

    async def close(self) -> None:
        """End it."""
        await self._ending.aclose()

    def abandon(self) -> None:
        """End what can be ended when the event loop is closed already."""
        self.open.service.close()
        self.open.passwords.close()
        for lock in self._locks:
            lock.release()


async def open_site(runtime: Runtime, log: EventLog) -> Running:
    """Open a site in this event loop; returns when the node can serve. Raises PandoError."""
    broken = asyncio.Event()

    def note(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.emit("process.failed", error=repr(error))
            broken.set()

    async with contextlib.AsyncExitStack() as stack:
        index, lock = claim_index(runtime)
        stack.callback(lock.release)
        house = own_lock(runtime.sockets / "house.lock")
        stack.callback(house.release)
        site = Site(runtime, index, log, on_ended=note, keeps_house=house.try_acquire)
        try:
            async with asyncio.timeout(OPEN_S):
                await until_listening(runtime.store_socket)
                await stack.enter_async_context(site)
                await stack.enter_async_context(siblings(site))
                found = await _first(site.until_open(), broken)
        except TimeoutError:
            reason = site.store.reason or "it does not say why"
            raise NotReady(f"the node cannot be used after {OPEN_S:g} s: {reason}") from None
        with contextlib.suppress(TimeoutError):  # a new replica may be busy for long: calls then say what with
            async with asyncio.timeout(READY_S):
                await site.until_ready()
        return Running(site, found, broken, stack.pop_all(), (lock, house))
    raise AssertionError


async def _first(opening: Coroutine[Any, Any, OpenSite], broken: asyncio.Event) -> OpenSite:
    """Wait until a site is open. Raises InternalError when a part of it fails before that."""
    tasks = asyncio.ensure_future(opening), asyncio.ensure_future(broken.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise InternalError("a part of Pando failed in this program; what it said is on standard error")
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()


async def until_listening(path: Path) -> None:
    """Wait for a process that is being started: that this takes a while is nothing to be told of."""
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(POLL_S)
        else:
            writer.close()
            return


def claim_index(runtime: Runtime) -> tuple[int, FileLock]:
    """Take an index that no other event loop on this machine has. Raises Overloaded, StorageError."""
    for index in range(INDEX_FIRST, INDEX_FIRST + INDEXES_MAX):
        lock = own_lock(runtime.sockets / f"web-{index}.lock")
        if lock.try_acquire():
            return index, lock
    raise Overloaded(f"{INDEXES_MAX} event loops use this node already")


class _Sibling(HttpToolsProtocol):
    """Its requests are not the program's, so they are not in its log."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args)
        self.access_log = False


@contextlib.asynccontextmanager
async def siblings(site: Site) -> AsyncIterator[None]:
    """Take requests from other processes of the node."""
    config = uvicorn.Config(
        site.app,
        http=HttpToolsProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,  # and nothing else that would touch the program's own logging
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    path = site.runtime.web_socket(site.index)
    path.unlink(missing_ok=True)
    server = await loop.create_unix_server(lambda: _Sibling(config, state, {}, loop), str(path))
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        path.unlink(missing_ok=True)
