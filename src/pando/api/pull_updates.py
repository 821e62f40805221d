"""POST /pull-updates: Turso's clients fetch what their file of a database lacks (they push through /v2/pipeline).

Answered by every node from its own log. A node that lacks what the client has seen already waits for it, and then lets
the primary answer. Who has everything may wait here for the next commit (long poll). Answers come without a length:
some clients take one that was cut off for complete if they know its length, and only miss the last chunk. Not here:
which pages those are (`pando.sql.pull_reading`), the messages (`pando.sql.pull_messages`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pando import limits
from pando.api.cluster import FORWARDED
from pando.api.http import JSON, Handler, Request, Response, error_body
from pando.api.pipeline import Headers as RawHeaders
from pando.api.pipeline import Request as SqlHeaders
from pando.api.pipeline import read_headers
from pando.clock import SystemClock
from pando.errors import BookmarkTimeout, NotReady, Overloaded, PandoError, PrimaryUnavailable, RevisionGone
from pando.node.http_client import download
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.freshness import Level
from pando.sql.notices import Notices
from pando.sql.pull_messages import PullRequest, decode_pull
from pando.sql.pull_reading import ImageNeeded, PositionsRead, Pull, PullReading, Source
from pando.sql.pull_revisions import parse_revision
from pando.sql.visibility import Asked, Visibility
from pando.store.layout import Layout
from pando.store.protocol import Committed, Opened, Topology

PATH: Final = "pull-updates"
BODY_BYTES_MAX: Final = 2 * limits.MIB
"""A request is small; the bitmap of every second page of a terabyte has 16 MiB, and nobody asks that."""
PULLS_MAX: Final = 64
"""Answers of one process that are found or sent at the same time; each holds an open image and a log."""
WAITING_MAX: Final = 1024
"""Clients of one process that wait for the next commit."""
LONG_POLL_S_MAX: Final = 50.0
"""Balancers cut requests off that are silent for 60 s."""
PAUSE_S: Final = 60.0
"""How long the primary may pause while it answers for a replica; it may have to copy the database first."""
THREADS: Final = 2
_PROTOBUF: Final = (b"content-type", b"application/protobuf")
_END: Final = b""


class Store(Asked, Protocol):
    """What is needed of the links to the stores."""

    @property
    def is_primary(self) -> bool:
        """Whether this node takes the writes."""
        ...

    @property
    def topology(self) -> Topology:
        """Who is who."""
        ...

    async def open_database(self, name: str) -> Opened:
        """Open a database of this node for reading; raises UnknownDatabase, NotReady."""
        ...


class Service(Protocol):
    """What is needed of the SQL service."""

    def check_copying(self, call: Call) -> None:
        """Raise PandoError if the caller may not have all of a database."""
        ...

    def owed(self, call: Call, visible: tuple[int, int]) -> tuple[int, int] | None:
        """Give the commit that the caller wrote and this node did not show in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PullServices:
    """What the route needs."""

    store: Store
    service: Service
    authenticate: Callable[[RawHeaders], Access]
    positions: PositionsRead
    notices: Notices
    layout: Layout
    wait_s: float = limits.BOOKMARK_WAIT_S


class PullUpdates:
    """The route, in one process."""

    def __init__(self, services: PullServices) -> None:
        self._services = services
        self._store = services.store
        self._positions = services.positions
        self._reading = PullReading(services.layout.temporary, services.positions, SystemClock())
        self._visibility = Visibility(services.store, SystemClock())
        self._threads = ThreadPoolExecutor(THREADS, "pull")
        self._makers = ThreadPoolExecutor(1, "pull-image")
        self._making: dict[str, asyncio.Lock] = {}
        self._active = 0
        self._waiting: set[asyncio.Event] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def routes(self) -> dict[str, Handler]:
        """Give the handler by the first name of its path."""
        return {PATH: self.handle}

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.scope["path"] != f"/{PATH}":
            return Response(404, [JSON], error_body(f"there is nothing at {request.scope['path'][:200]}", "NOT_FOUND"))
        if request.scope["method"] != "POST":
            return Response(405, [JSON, (b"allow", b"POST")], error_body("use POST", "METHOD_NOT_ALLOWED"))
        call = self._call(request)
        body = await request.body(BODY_BYTES_MAX)
        asked = decode_pull(body)
        if call.freshness.level is Level.STRONG and not self._store.is_primary:
            return await self._forward(request, body)
        opened = await self._store.open_database(call.database)
        if not await self._is_fresh(call, asked, opened.slot) and self._may_forward(request):
            return await self._forward(request, body)
        await self._poll(request, call.database, asked, opened.slot)
        layout = self._services.layout
        source = Source(call.database, Path(opened.path), layout.log(call.database), opened.slot)
        try:
            return await self._answer(source, asked)
        except RevisionGone:
            if not self._may_forward(request):
                raise
        return await self._forward(request, body)

    def stop(self) -> None:
        """Let nobody wait for commits any longer: the process is about to end."""
        for waiting in self._waiting:
            waiting.set()

    def close(self) -> None:
        """End the threads, when what they do is done."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._makers.shutdown(wait=False, cancel_futures=True)
        self._reading.close()

    def _call(self, request: Request) -> Call:
        """Read the headers; raises PandoError for who may not have the database."""
        access = self._services.authenticate(request.headers)
        said = SqlHeaders(access, request.scope["path"])
        read_headers(said, request.headers, None, database_from_host=False)
        access.check_database(said.database)
        call = Call(said.database, access, said.bookmark, said.freshness, caller=said.caller)
        self._services.service.check_copying(call)
        return call

    # -- freshness --

    async def _is_fresh(self, call: Call, asked: PullRequest, slot: int) -> bool:
        """Wait until this node shows what the client saw or wrote already; False: not in time."""
        visible = self._positions.visible(slot)
        wanted = [self._services.service.owed(call, visible) or visible]
        for text in (asked.client_revision, asked.server_revision):
            if text:
                position = parse_revision(text)
                wanted.append((int(position.epoch), int(position.txid)))
        if call.bookmark is not None and call.bookmark.database == call.database:
            wanted.append((int(call.bookmark.epoch), int(call.bookmark.txid)))
        place = max(wanted)
        if place <= visible or self._store.is_primary:  # what the primary does not have is of a lost history
            return True
        shown = lambda: self._positions.visible(slot)  # noqa: E731 - it changes
        return await self._visibility.until(call.database, place, shown, self._services.wait_s)

    async def _poll(self, request: Request, database: str, asked: PullRequest, slot: int) -> None:
        """Hold a client that has everything until there is more, its time is over, or it is gone."""
        if not asked.long_poll_ms or not asked.client_revision or asked.server_revision:
            return
        epoch, txid = self._positions.visible(slot)
        if parse_revision(asked.client_revision).txid != txid:
            return
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} clients wait for commits already; pull again later")
        committed = asyncio.Event()
        self._waiting.add(committed)

        def listener(_: Committed) -> None:
            if self._positions.visible(slot) > (epoch, txid):
                committed.set()

        more = asyncio.create_task(committed.wait())
        gone = asyncio.create_task(_until_gone(request))
        try:
            self._services.notices.listen(database, listener)
            if self._positions.visible(slot) == (epoch, txid):
                timeout_s = min(asked.long_poll_ms / 1000, LONG_POLL_S_MAX)
                await asyncio.wait((more, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(committed)
            self._services.notices.unlisten(database, listener)
            more.cancel()
            gone.cancel()
            await asyncio.gather(more, gone, return_exceptions=True)

    # -- answering --

    async def _answer(self, source: Source, asked: PullRequest) -> Response:
        if self._active >= PULLS_MAX:
            raise Overloaded(f"{PULLS_MAX} pulls are answered already; try again later")
        self._active += 1
        try:
            pull = await self._find(source, asked)
        except BaseException:
            self._active -= 1
            raise
        sending = _Sending(pull, self._threads, self._ended)
        try:
            first = await sending.next()
        except BaseException:
            sending.close()
            raise
        return Response(200, [_PROTOBUF], stream=_stream(sending, first))

    def _ended(self) -> None:
        self._active -= 1

    async def _find(self, source: Source, asked: PullRequest) -> Pull:
        loop = asyncio.get_running_loop()
        self._sweep_later(loop)
        try:
            return await self._in_thread(source, asked, takes_old=False)
        except ImageNeeded:
            lock = self._making.setdefault(source.database, asyncio.Lock())
        async with lock:
            with contextlib.suppress(ImageNeeded):  # who waited for the lock finds an image
                return await self._in_thread(source, asked, takes_old=False)
            await loop.run_in_executor(self._makers, self._reading.make_image, source)
            try:
                return await self._in_thread(source, asked, takes_old=True)
            except ImageNeeded:
                raise NotReady("the copy of the database that this needs is gone already; try again") from None

    async def _in_thread(self, source: Source, asked: PullRequest, *, takes_old: bool) -> Pull:
        future = self._threads.submit(self._reading.answer, source, asked, takes_old_image=takes_old)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close_unwanted)
            raise

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now and then whether images can go, as long as there are some."""
        if self._sweeping is None:
            self._sweeping = loop.call_later(60.0, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        if self._reading.sweep():
            self._sweep_later(loop)

    # -- the primary --

    def _may_forward(self, request: Request) -> bool:
        """Tell whether the primary may know more, and this was not sent on by another node."""
        return not self._store.is_primary and not request.header(FORWARDED)

    async def _forward(self, request: Request, body: bytes) -> Response:
        """Have the primary answer. Raises PrimaryUnavailable."""
        url = self._store.topology.primary_url
        if not url or not self._may_forward(request):
            raise PrimaryUnavailable("the primary is not known now, and this node has not what was asked for")
        headers = [pair for pair in request.headers if pair[0] != b"host"]
        headers.append((FORWARDED, self._store.topology.node.encode()))
        stack = contextlib.AsyncExitStack()
        try:
            pause_s = PAUSE_S + LONG_POLL_S_MAX
            answer = await stack.enter_async_context(
                download(url, f"/{PATH}", headers, pause_s=pause_s, method="POST", body=body)
            )
        except PrimaryUnavailable as error:
            raise BookmarkTimeout(f"this node is behind what was asked for, and {error.message}") from error
        passed = [pair for pair in answer.headers if pair[0] in {b"content-type", b"retry-after"}]
        return Response(answer.status, passed, stream=_passed_on(stack, answer.chunks()))


class _Sending:
    """The parts of an answer, each fetched in a thread; closes the answer when no thread is in it any more."""

    def __init__(self, pull: Pull, threads: ThreadPoolExecutor, on_closed: Callable[[], None]) -> None:
        self._pull = pull
        self._threads = threads
        self._on_closed = on_closed
        self._running: Future[bytes] | None = None
        self._is_closed = False

    async def next(self) -> bytes:
        """Give the next part; nothing: it was the last."""
        self._running = self._threads.submit(next, self._pull.parts, _END)
        part = await asyncio.wrap_future(self._running)
        self._running = None
        return part

    def close(self) -> None:
        """End it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._on_closed()
        if self._running is None or self._running.cancel() or self._running.done():
            self._pull.close()
        else:
            self._running.add_done_callback(lambda _: self._pull.close())


async def _stream(sending: _Sending, first: bytes) -> AsyncIterator[bytes]:
    try:
        part = first
        while part:
            yield part
            part = await sending.next()
    finally:
        sending.close()


async def _passed_on(stack: contextlib.AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in chunks:
            yield chunk


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _close_unwanted(future: Future[Pull]) -> None:
    """Close what nobody waits for any more."""
    with contextlib.suppress(PandoError, ImageNeeded):
        if not future.cancelled():
            future.result().close()
