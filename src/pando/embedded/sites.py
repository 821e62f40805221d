"""One site per event loop: what answers requests within this process.

A site is opened at the first use in a loop. Not here: what is asked (`pando.embedded.calling`).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from pando.api.site import OpenSite, Site
from pando.embedded.attaching import Attachment
from pando.errors import NotReady, Overloaded
from pando.log import EventLog
from pando.node.runtime import Runtime
from pando.store.files import FileLock

READY_S: Final = 60.0
"""How long a node may take until it can serve; recovery of large databases may need more."""
INDEX_FIRST: Final = 1000
"""Indexes below it are those of the node's own web processes."""
INDEXES_MAX: Final = 1000
"""Event loops that use one node at a time."""


@dataclass(slots=True)
class Running:
    """A site with what is to be given back after it."""

    site: Site
    open: OpenSite
    index: FileLock
    house: FileLock
    ending: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)


async def open_site(attachment: Attachment, runtime: Runtime, log: EventLog) -> Running:
    """Open a site in this event loop; returns when the node can serve. Raises PandoError."""
    index, lock = claim_index(runtime)
    house = FileLock(runtime.sockets / "house.lock")
    site = Site(runtime, index, log, on_ended=lambda task: _note(task, log), keeps_house=house.try_acquire)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(lock.release)
        stack.callback(house.release)
        await stack.enter_async_context(site)
        try:
            async with asyncio.timeout(READY_S):
                found = await site.until_ready()
        except TimeoutError:
            reason = site.store.reason or "it does not say why"
            raise NotReady(f"the node is not ready after {READY_S:g} s: {reason}") from None
        return Running(site, found, lock, house, stack.pop_all())
    raise AssertionError


def claim_index(runtime: Runtime) -> tuple[int, FileLock]:
    """Take an index that no other event loop on this machine has. Raises Overloaded, StorageError."""
    for index in range(INDEX_FIRST, INDEX_FIRST + INDEXES_MAX):
        lock = FileLock(runtime.sockets / f"web-{index}.lock")
        if lock.try_acquire():
            return index, lock
    raise Overloaded(f"{INDEXES_MAX} event loops use this node already")


def _note(task: asyncio.Task[None], log: EventLog) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.emit("process.failed", error=repr(error))
