"""What both protocols for clients with a local file need of a node: who asks for what, positions, threads, the primary.

Not here: the protocols (`pando.api.embedded_v2`, `pando.api.embedded_v1`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol, TypeVar

from pando.api.cluster import FORWARDED
from pando.api.http import Request, Response
from pando.api.pipeline import Headers as RawHeaders
from pando.api.pipeline import Request as SqlHeaders
from pando.api.pipeline import read_headers
from pando.clock import Clock
from pando.errors import NotReady, Overloaded, PandoError, PrimaryUnavailable, UnknownDatabase
from pando.node.http_client import download
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.embedded_generations import GENERATION_FRAMES
from pando.sql.embedded_images import ExportImages
from pando.sql.embedded_log import FrameLog
from pando.sql.pull_reading import PositionsRead, PullReading, Source
from pando.store.files import RealFileSystem
from pando.store.layout import Layout
from pando.store.protocol import NodeStatus, Opened, Topology
from pando.types import SYSTEM_DATABASE, TXID, Epoch

THREADS: Final = 2
REQUESTS_MAX: Final = 64
"""Requests of one process that are answered at the same time; what is held for each is a few megabytes."""
CATCH_UP_S: Final = 2.0
"""How long a replica waits for what the primary has, before a client is told that there is no more."""
PAUSE_S: Final = 60.0
"""How long the primary may pause while it answers for a replica; it may have to copy the database first."""
SWEEP_S: Final = 60.0
_END: Final = object()
_PASSED: Final = frozenset({b"content-type", b"content-length", b"retry-after"})

T = TypeVar("T")


class Store(Protocol):
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

    async def wait_position(self, database: str, epoch: int, txid: int, timeout_s: float) -> None:
        """Return once this node shows the commit; raises BookmarkTimeout."""
        ...

    async def wait_shown(self, database: str, epoch: int, txid: int) -> None:
        """Return once every replica that keeps up shows the commit, or is waited for no longer."""
        ...

    async def primary_status(self) -> NodeStatus:
        """Give what the primary's store says of its node. Raises PrimaryUnavailable."""
        ...


class Service(Protocol):
    """What is needed of the SQL service."""

    def check_copying(self, call: Call) -> None:
        """Raise PandoError if the caller may not have all of a database."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServices:
    """What the routes need."""

    store: Store
    service: Service
    authenticate: Callable[[RawHeaders], Access]
    positions: PositionsRead
    layout: Layout
    clock: Clock
    random_bytes: Callable[[int], bytes]


class Lateness(Enum):
    """What this node shows, beside what the primary has."""

    CURRENT = "current"
    LATE = "late"
    """The primary is there, and has more than this node could show in time."""
    ALONE = "alone"
    """The primary cannot be asked."""


@dataclass(frozen=True, slots=True)
class Here:
    """A database as this node has it: where it is, and the newest commit that is certainly visible."""

    source: Source
    epoch: Epoch
    txid: TXID


class EmbeddedNode:
    """One process of a node, as both protocols see it."""

    def __init__(self, services: EmbeddedServices, *, generation_frames: int = GENERATION_FRAMES) -> None:
        self.services = services
        self.store = services.store
        self.clock = services.clock
        layout = services.layout
        self.log = FrameLog(layout.log, RealFileSystem(), generation_frames=generation_frames)
        self._reading = PullReading(layout.temporary, services.positions, services.clock)
        self.images = ExportImages(layout.temporary, self._reading, self.log)
        self._threads = ThreadPoolExecutor(THREADS, "embedded")
        self._active = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End the threads, when what they do is done."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reading.close()

    # -- who asks --

    def call(self, request: Request, named: str | None = None) -> Call:
        """Read token and database of a request; raises PandoError for who may not have the database.

        `named`: the database that the path names.
        """
        access = self.services.authenticate(request.headers)
        said = SqlHeaders(access, request.scope["path"])
        read_headers(said, request.headers, named, database_from_host=False)
        return self.checked(Call(said.database, access, caller=said.caller))

    def checked(self, call: Call) -> Call:
        """Give the call if the caller may have all of the database. Raises PandoError."""
        call.access.check_database(call.database)
        if call.database == SYSTEM_DATABASE:
            raise UnknownDatabase(f"database {SYSTEM_DATABASE!r} is Pando's own; nobody keeps a copy of it")
        self.services.service.check_copying(call)
        return call

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Count a request while it is answered. Raises Overloaded."""
        if self._active >= REQUESTS_MAX:
            raise Overloaded(f"{REQUESTS_MAX} embedded replicas are answered already; sync again later")
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    # -- what is here --

    async def here(self, database: str) -> Here:
        """Tell where a database is and what it shows. Raises UnknownDatabase, NotReady."""
        opened = await self.store.open_database(database)
        epoch, txid = self.services.positions.visible(opened.slot)
        if not epoch and not txid and self.services.positions.about(opened.slot)[0]:
            raise NotReady(f"database {database!r} is being opened; try again")
        source = Source(database, Path(opened.path), self.services.layout.log(database), opened.slot)
        return Here(source, Epoch(epoch), TXID(txid))

    async def catch_up(self, database: str, timeout_s: float = CATCH_UP_S) -> Lateness:
        """On a replica, wait until it shows what the primary has now, if that is to be had in time.

        The primary's store is asked, not its writer: a read there would wait for a transaction that may be the very
        client's, and end it.
        """
        if self.store.is_primary:
            return Lateness.CURRENT
        there = None
        try:
            async with asyncio.timeout(timeout_s):
                status = await self.store.primary_status()
                there = next((one for one in status.databases if one.name == database), None)
                if there is not None:
                    await self.store.wait_position(database, there.epoch, there.txid, timeout_s)
        except (PandoError, TimeoutError):
            return Lateness.ALONE if there is None else Lateness.LATE
        return Lateness.CURRENT

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def pieces(self, blocking: Iterator[T]) -> AsyncIterator[T]:
        """Give what an iterator that blocks gives; it is closed in the end, unless it is still at work then."""
        try:
            while True:
                piece = await self.in_thread(lambda: next(blocking, _END))
                if piece is _END:
                    return
                yield piece  # type: ignore[misc]
        finally:
            with contextlib.suppress(RuntimeError):  # the thread is in it: its file is closed when it is forgotten
                self._threads.submit(getattr(blocking, "close", _nothing))

    def random_bits(self, count: int) -> int:
        """Give a number of so many random bits."""
        return int.from_bytes(self.services.random_bytes(count // 8), "big")

    def sweep_later(self) -> None:
        """Look now and then whether images can go, as long as there are some."""
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        if self._reading.sweep():
            self.sweep_later()

    # -- the primary --

    def may_forward(self, request: Request) -> bool:
        """Tell whether the primary may know more, and this was not sent on by another node."""
        return not self.store.is_primary and not request.header(FORWARDED)

    async def forward(self, request: Request) -> Response:
        """Have the primary answer a GET. Raises PrimaryUnavailable."""
        url = self.store.topology.primary_url
        if not url:
            raise PrimaryUnavailable("the primary is not known now, and this node has not what was asked for")
        headers = [pair for pair in request.headers if pair[0] != b"host"]
        headers.append((FORWARDED, self.store.topology.node.encode()))
        stack = contextlib.AsyncExitStack()
        answer = await stack.enter_async_context(download(url, request.scope["path"], headers, pause_s=PAUSE_S))
        passed = [pair for pair in answer.headers if pair[0] in _PASSED]
        return Response(answer.status, passed, stream=_passed_on(stack, answer.chunks()))


async def _passed_on(stack: contextlib.AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in chunks:
            yield chunk


def _nothing() -> None:
    return None
