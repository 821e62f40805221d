"""Moves changes from the feed to streams: wakes when commits became visible, reads on, has each change told in order.

`Commits` wakes who waits; the store is asked for notices only while somebody does. `Pump` serves the streams of a
process, `follow` one reader of the plain feed. A stream that comes back with a place is told what it missed by a task
of its own, until it is where the others are. Not here: who may see what (`matching`), HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pando import limits
from pando.clock import Clock
from pando.errors import CorruptionError, InternalError, PandoError, invariant
from pando.records.realtime.changes import Change, Cursor
from pando.records.realtime.clients import Client, Ending, Registry
from pando.records.realtime.feed import CursorGone, Feed
from pando.records.realtime.identities import Identity
from pando.records.realtime.matching import Matcher
from pando.records.realtime.topics import Subscription

_RETRY_S: Final = 0.2
"""Before the feed is read again after an error that will pass."""
_TICK_S: Final = 1.0


class Commits:
    """Wakes everybody who waits for commits of one database."""

    def __init__(self, watch: Callable[[], None], unwatch: Callable[[], None]) -> None:
        """`watch` asks for notices (`NodeStoreClient.watch`), which must end in `wake`; the first comes at once."""
        self._watch = watch
        self._unwatch = unwatch
        self._listeners = 0
        self._next = asyncio.Event()

    def wake(self) -> None:
        """Commits became visible, or something else makes looking worthwhile."""
        event, self._next = self._next, asyncio.Event()
        event.set()

    def next(self) -> asyncio.Event:
        """Give what is set by the next `wake`; take it before looking, so that nothing is missed between."""
        return self._next

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Want to hear of commits for a while."""
        self._listeners += 1
        if self._listeners == 1:
            self._watch()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._unwatch()


async def follow(
    feed: Feed, commits: Commits, after: Cursor, *, quiet_s: float, may_be_ahead: bool = False
) -> AsyncGenerator[list[Change], None]:
    """Give the changes after a cursor in batches, for ever; an empty batch after each `quiet_s` of silence.

    `may_be_ahead`: on a replica the cursor may be of a change that has not arrived yet. Raises CursorGone.
    """
    if not may_be_ahead:
        await feed.check(after)
    with commits.heard():
        while True:
            event = commits.next()
            changes = await feed.read(after)
            if changes:
                after = changes[-1].sequence
                may_be_ahead = False
                yield changes
                continue
            if not may_be_ahead:
                await feed.check(after)
            try:
                await asyncio.wait_for(event.wait(), quiet_s)
            except TimeoutError:
                yield []


async def _there_is_room() -> None:
    """Not needed where nothing is sent."""


class Pump:
    """Serves the streams of one registry while `run` runs."""

    def __init__(
        self,
        feed: Feed,
        registry: Registry,
        matcher: Matcher,
        commits: Commits,
        clock: Clock,
        *,
        room: Callable[[], Awaitable[None]] = _there_is_room,
        retry_s: float = _RETRY_S,
    ) -> None:
        """`room` returns when streams have sent enough of what was handed out."""
        self._feed = feed
        self._registry = registry
        self._matcher = matcher
        self._commits = commits
        self._clock = clock
        self._room = room
        self._retry_s = retry_s
        self._catching_up = asyncio.Semaphore(limits.REALTIME_CATCHING_UP_MAX)
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serve until cancelled; then all streams end. Raises what must not happen."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._serve())
                group.create_task(self._tick())
        finally:
            self._group = None
            self._registry.end_all(Ending.STOPPED)

    def subscribe(
        self, client_id: str, subscriptions: Sequence[Subscription], identity: Identity | None, ip: str, seen: Cursor
    ) -> None:
        """As `Registry.subscribe`, and begin to serve. Raises ApiError, StaleIdentity, Overloaded."""
        was_read = self._registry.cursor is not None
        was_behind = (found := self._registry.get(client_id)) is not None and found.behind is not None
        client = self._registry.subscribe(client_id, subscriptions, identity, ip, seen)
        if client.behind is not None and not was_behind:
            invariant(self._group is not None, "streams are served while the pump runs")
            assert self._group is not None
            self._group.create_task(self._catch_up(client))
        if not was_read:
            self._commits.wake()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._registry.expire(self._clock.monotonic())

    async def _serve(self) -> None:
        while True:
            event = self._commits.next()
            if self._registry.cursor is None:
                await event.wait()
                continue
            with self._commits.heard():
                while self._registry.cursor is not None:
                    event = self._commits.next()
                    if not await self._step():
                        await event.wait()

    async def _step(self) -> bool:
        """Tell one batch; False when there is nothing more."""
        registry = self._registry
        cursor = registry.cursor
        if cursor is None:
            return True
        changes = await self._read(cursor)
        if changes is None or registry.cursor != cursor:
            return True
        for change in changes:
            if registry.cursor != change.sequence - 1:  # everybody has gone, and perhaps somebody else has come
                return True
            await self._matcher.dispatch(change)
            await asyncio.sleep(0)  # let others have their turn
            await self._room()
        return bool(changes)

    async def _read(self, cursor: Cursor) -> list[Change] | None:
        """Read on; None if that was not possible: the streams have ended, or a moment has passed."""
        try:
            changes = await self._feed.read(cursor)
            if not changes:
                await self._feed.check(cursor)  # the feed may have been begun anew
        except (CursorGone, CorruptionError):
            self._registry.end_all(Ending.MISSED)
            return None
        except InternalError:
            raise
        except PandoError:  # the database is being opened, or its file cannot be read now
            await asyncio.sleep(self._retry_s)
            return None
        return changes

    async def _catch_up(self, client: Client) -> None:
        async with self._catching_up:
            while client.ending is None and client.behind is not None:
                cursor = self._registry.cursor
                if cursor is None or client.behind >= cursor or not client.held:
                    self._registry.caught_up(client)
                    return
                await self._catch_up_to(client, client.behind, cursor)

    async def _catch_up_to(self, client: Client, behind: Cursor, cursor: Cursor) -> None:
        """Tell one batch of what a stream has missed, up to the cursor."""
        try:
            changes = await self._feed.read(behind, most=min(limits.CHANGES_BATCH_MAX, cursor - behind))
        except (CursorGone, CorruptionError):
            self._registry.end(client, Ending.MISSED)
            return
        except InternalError:
            raise
        except PandoError:
            await asyncio.sleep(self._retry_s)
            return
        if not changes:  # the feed was begun anew
            self._registry.end(client, Ending.MISSED)
        for change in changes:
            if client.ending is not None:
                return
            await self._matcher.dispatch_to(client, change)
            client.behind = change.sequence
            await asyncio.sleep(0)
            await self._room()
