"""The routes of event streams: `GET /api/realtime` opens one, `POST /api/realtime` says what it subscribes to.

A stream lives in the process that its connection came to; a request for another process' stream is sent there. The
pump runs from the first stream on. Not here: who hears what (`pando.records.realtime`), the plain feed
(`pando.api.records_changes`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from pando.api.client_ip import client_ip
from pando.api.http import Receive, Request, Response
from pando.api.records_app import Route
from pando.api.records_http import NO_CONTENT, SECURITY, ApiRequest, read_object
from pando.api.stream_forwarder import Distance, Hop, StreamForwarder
from pando.clock import Clock
from pando.errors import NotReady
from pando.node.http_protocol import CUT
from pando.records.desk import Asking, Desk
from pando.records.problems import not_found
from pando.records.realtime.client_ids import RANDOM_BYTES, make_client_id, parse_client_id, split_event_id
from pando.records.realtime.clients import Client, Ending, Registry, StaleIdentity
from pando.records.realtime.feed import CursorGone, Feed, SharedFeed, UntilShown
from pando.records.realtime.frames import SSE_HEADERS
from pando.records.realtime.judge import Judge, identity_of
from pando.records.realtime.matching import Matcher
from pando.records.realtime.pump import Commits, Pump
from pando.records.realtime.topics import Subscription, check_request
from pando.records.realtime.waking import Waking

BODY_BYTES_MAX: Final = 8 << 20
"""Of a subscription request: all the topics that one may have, written out."""
SEND_BYTES: Final = 64 * 1024
"""Given to the connection at once; the rest waits until it has room."""
CUT_S: Final = 5.0
"""After the end of a stream: by then its client has read the rest, or is cut off."""
_TRIES: Final = 5
"""How often the record of a request is read when changes come in between."""

Background = Callable[[asyncio.Task[None]], None]


class Realtime:
    """The event streams of one web process."""

    def __init__(
        self,
        desk: Desk,
        commits: Commits,
        forwarder: StreamForwarder,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        on_ended: Background,
        until_shown: UntilShown | None = None,
    ) -> None:
        """`on_ended` is told when the pump ends, by a bug or when it is stopped; `until_shown`: see `SharedFeed`."""
        self._desk = desk
        self._commits = commits
        self._forwarder = forwarder
        self._clock = clock
        self._random_bytes = random_bytes
        self._on_ended = on_ended
        self._until_shown = until_shown
        self._registry = Registry()
        self._waking = Waking(lambda callback: asyncio.get_running_loop().call_soon(callback))
        self._feed = Feed(desk.engine.reads())
        self._pump: Pump | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes of event streams."""
        return {"GET realtime": self.connect, "POST realtime": self.subscribe}

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._registry)

    def stop(self) -> None:
        """End all streams; new ones are refused."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
        self._registry.end_all(Ending.STOPPED)

    # -- routes --

    async def connect(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """GET realtime."""
        headers = [*SSE_HEADERS, *SECURITY]
        if asked.method == "HEAD":
            return Response(200, headers)
        if self._is_stopped:
            raise NotReady("the process is being stopped; try again")
        place = await self._place_of(asked)
        self._start(asking)
        connection = _Connection(asked.request, self._waking)
        client = connection.client = self._registry.connect(
            make_client_id(self._forwarder.node, self._forwarder.index, self._random_bytes(RANDOM_BYTES)),
            client_ip(asked, asking.known.settings.trusted_proxy),
            self._clock.monotonic(),
            connection.wake,
            place=place,
        )
        return Response(200, headers, stream=self._events(client, connection))

    async def subscribe(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """POST realtime."""
        body = await asked.request.body(BODY_BYTES_MAX)
        client_id, texts = _read(read_object(body) if body else {})
        subscriptions = check_request(client_id, texts)
        hop = self._forwarder.hop_of(asked, body)
        if hop is None:
            hop = Hop(Distance.CLIENT, client_ip(asked, asking.known.settings.trusted_proxy))
        home = parse_client_id(client_id)
        if home is None:
            raise not_found("There is no event stream with this client id.")
        if not self._forwarder.is_here(home):
            return await self._forwarder.forward(asked, body, home, hop)
        await self._subscribe(asked, client_id, subscriptions, hop.ip)
        return NO_CONTENT

    async def _subscribe(
        self, asked: ApiRequest, client_id: str, subscriptions: tuple[Subscription, ...], ip: str
    ) -> None:
        if self._pump is None or self._registry.get(client_id) is None:
            raise not_found("There is no event stream with this client id.")
        for tries_left in reversed(range(_TRIES)):
            seen = await self._feed.newest()  # before the record is read, so that no change of it is missed
            asking = await self._desk.asking(
                asked.authorization, method=asked.method, query=asked.query, headers=asked.headers
            )
            try:
                self._pump.subscribe(client_id, subscriptions, identity_of(asking), ip, seen)
                return
            except StaleIdentity:
                if not tries_left:
                    raise

    async def _place_of(self, asked: ApiRequest) -> int | None:
        """Give the place in the feed that a stream goes on from; None for a stream that tells no places.

        Raises CursorGone.
        """
        _, place = split_event_id(asked.headers.get("last_event_id", ""))
        if place is None:
            return await self._feed.newest() if asked.query.get("places") == "true" else None
        try:
            await self._feed.check(place)
        except CursorGone as gone:
            if gone.oldest is not None or self._desk.engine.is_primary:
                raise  # on a replica it may be of a change that has not come yet
        return place

    # -- serving --

    def _start(self, asking: Asking) -> None:
        if self._task is not None:
            return
        judge = Judge(self._desk, asking.known)
        matcher = Matcher(self._registry, lambda: judge.schema, judge.allowed)
        room = self._waking.room
        feed = Feed(judge) if self._until_shown is None else SharedFeed(judge, self._until_shown)
        self._pump = Pump(feed, self._registry, matcher, self._commits, self._clock, room=room)
        self._task = asyncio.get_running_loop().create_task(self._pump.run())
        self._task.add_done_callback(self._on_ended)

    async def _events(self, client: Client, connection: _Connection) -> AsyncIterator[bytes]:
        """Give the bytes of a stream until it ends, or its client is gone."""
        registry = self._registry
        leaving = asyncio.get_running_loop().create_task(_until_gone(connection.request.receive))
        leaving.add_done_callback(lambda _: registry.end(client, Ending.LEFT))
        try:
            while True:
                connection.ready.clear()
                data = registry.take(client, self._clock.monotonic())
                for start in range(0, len(data), SEND_BYTES):
                    if client.ending in (Ending.LEFT, Ending.OVERFLOW):
                        return
                    yield data[start : start + SEND_BYTES]
                if not client.outbox:
                    if client.ending is not None:
                        return
                    await connection.ready.wait()
        finally:
            leaving.cancel()
            registry.end(client, Ending.LEFT)


class _Connection:
    """Where the bytes of one stream go."""

    __slots__ = ("client", "ready", "request", "waking")

    def __init__(self, request: Request, waking: Waking) -> None:
        self.request = request
        self.waking = waking
        self.ready = asyncio.Event()
        self.client: Client | None = None

    def wake(self) -> None:
        """There is something to be sent, or the stream has ended: then who does not read is not waited for."""
        self.waking.add(self.ready)
        if self.client is not None and self.client.ending is not None:
            cut = self.request.scope.get(CUT)
            if cut is not None:
                asyncio.get_running_loop().call_later(CUT_S, cut, self.request.scope)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _read(body: dict[str, Any]) -> tuple[str, list[str]]:
    """Take the body of a subscription request apart; what is of another type counts as text, as in PocketBase."""
    client_id, texts = body.get("clientId"), body.get("subscriptions")
    found = texts if isinstance(texts, list) else [] if texts is None else [texts]
    return client_id if isinstance(client_id, str) else "", [each if isinstance(each, str) else "" for each in found]
