"""What changes, as it happens: in the order of the commits, whichever node and process wrote it.

It is read from the change feed, so nothing is missed between two looks, and what was heard last tells where to go on
after a restart. Not here: the feed (`pando.records.realtime.feed`), streams over HTTP (`pando.api.records_realtime`).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pando.api.site import OpenSite
from pando.embedded.records import Record, record_of
from pando.errors import InvalidRequest, RetryLater
from pando.records.fields import jsontext
from pando.records.model import Collection
from pando.records.realtime.changes import Change, Values
from pando.records.realtime.feed import Feed
from pando.records.realtime.pump import follow
from pando.records.record import SUPERUSER, from_row, record_json

QUIET_S: Final = 60.0
AGAIN_S: Final = 0.5
"""After the node was away for a moment."""
Handler = Callable[["Event"], Awaitable[None] | None]
Site = Callable[[], Awaitable[OpenSite]]


@dataclass(frozen=True, slots=True)
class Event:
    """A record was created, changed or deleted. `cursor` is its place in the feed; `old` the record before."""

    action: str
    collection: str
    record: Record
    old: Record | None
    cursor: int


async def events(site: Site, since: int | None) -> AsyncGenerator[Event, None]:
    """Give what happens after a place in the feed, from now on without one. Raises `CursorGone`, an ApiError 410.

    While the node is away this waits.
    """
    async with contextlib.aclosing(_batches(site, since)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


async def _batches(site: Site, since: int | None) -> AsyncGenerator[list[Event], None]:
    after = since
    while True:
        try:
            found = await site()
            if after is None:
                after = await newest(found)
            feed = Feed(found.desk.engine.reads())
            is_replica = not found.desk.engine.is_primary
            looks = follow(feed, found.commits, after, quiet_s=QUIET_S, may_be_ahead=is_replica)
            async with contextlib.aclosing(looks):
                async for changes in looks:
                    batch = await _events_of(found, changes)
                    after = changes[-1].sequence if changes else after
                    yield batch
        except RetryLater:
            await asyncio.sleep(AGAIN_S)


async def newest(site: OpenSite) -> int:
    """Give the place in the feed where everything has been heard."""
    await site.desk.known()  # it may have to be made
    return await Feed(site.desk.engine.reads()).newest()


async def _events_of(site: OpenSite, changes: Sequence[Change]) -> list[Event]:
    known = await site.desk.known()
    found = []
    for change in changes:
        collection = known.schema.find(change.table)
        if collection is None or collection.name != change.table or change.values is None:
            continue
        old = None if change.old is None else _record(collection, change.old)
        record = _record(collection, change.values)
        found.append(Event(change.operation.action, collection.name, record, old, change.sequence))
    return found


def _record(collection: Collection, values: Values) -> Record:
    columns = [name for name in values if name in collection.by_name]
    stored = from_row(collection, columns, [values[name] for name in columns])
    return record_of(msgspec.json.decode(jsontext.encode(record_json(stored, SUPERUSER))))


class Subscription:
    """A handler that is called for each event of a topic, one after the other, until `stop`."""

    def __init__(self, topic: str, handler: Handler, heard: AsyncIterator[Event]) -> None:
        self._collection, self._id = parse_topic(topic)
        self._handler = handler
        self._heard = heard
        self._is_over = False
        self._handling: asyncio.Task[None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._report)

    async def stop(self) -> None:
        """Hear no more. A handler that is at work is cancelled, unless it is what calls this."""
        self._is_over = True
        if asyncio.current_task() is not self._handling:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async for event in self._heard:
            if event.collection == self._collection and self._id in ("*", event.record.id):
                await self._handle(event)
            if self._is_over:
                return

    async def _handle(self, event: Event) -> None:
        loop = asyncio.get_running_loop()
        self._handling = loop.create_task(self._call(event))
        (error,) = await asyncio.gather(self._handling, return_exceptions=True)
        self._handling = None
        if isinstance(error, Exception):  # the program's own: it hears of it, and of what happens next
            context = {"message": f"a handler of {event.collection} failed", "exception": error}
            loop.call_exception_handler(context)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"the subscription to {self._collection} has ended", "exception": error}
            task.get_loop().call_exception_handler(context)

    async def _call(self, event: Event) -> None:
        waiting = self._handler(event)
        if inspect.isawaitable(waiting):
            await waiting


def parse_topic(topic: str) -> tuple[str, str]:
    """Take `COLLECTION/*` or `COLLECTION/ID` apart. Raises InvalidRequest."""
    collection, slash, id = topic.partition("/")
    if not collection or not slash or not id:
        raise InvalidRequest(f"{topic[:100]!r} is no topic; write COLLECTION/* or COLLECTION/ID")
    return collection, id
