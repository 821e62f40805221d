"""One WebSocket connection's streams, stored texts and cursors: messages in, messages out.

Requests of one stream run in order, those of different streams side by side; each stream that has something to do has
a task. What the client sends faster than it is done waits in its socket: `take` returns when there is room again.
Broken rules raise HranaProtocolError, after which the connection must be closed. Not here: frames and handshakes
(`pando.api.websocket`), running SQL (`pando.sql.service`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from pando import limits
from pando.errors import Overloaded, PandoError
from pando.sql.access import Access
from pando.sql.cursors import Cursor
from pando.sql.messages import HranaProtocolError, StoreSqlRequest, WireRequest, replication_index, sql_ids, to_request
from pando.sql.service import Call, SqlService
from pando.sql.streams import Stream
from pando.sql.texts import StoredTexts
from pando.sql.ws_encodings import WS_JSON, WsEncoding
from pando.sql.ws_messages import (
    Asked,
    CloseCursor,
    CloseStream,
    FetchCursor,
    ForTexts,
    Hello,
    OpenCursor,
    OpenStream,
    for_database,
)
from pando.store.requests import BatchResult, Failure, Request
from pando.store.runner import failure_of

STREAMS_PER_CONNECTION_MAX: Final = 1000
"""Clients open one for each statement that they run side by side."""
CURSORS_MAX: Final = 16
"""Open cursors of a connection; each holds the results of a batch."""
REQUESTS_MAX: Final = 1024
"""Requests of a connection that wait or run; past it nothing more is taken from its socket."""
WAITING_BYTES_MAX: Final = limits.BODY_SIZE_BYTES_MAX
"""Length of the messages of these requests."""
PARALLEL_MAX: Final = 32
"""Requests of a connection that run, or whose answers are being sent, at once: bounds the answers in memory.

Streams that hold a transaction are not counted, for that others may wait.
"""
JWT_CHARS_MAX: Final = 16 * limits.KIB
"""Longest token in a hello; it names its caller in tables."""

Headers = list[tuple[bytes, bytes]]
Authenticate = Callable[[Headers], Access]
SendMessage = Callable[[bytes], Awaitable[None]]
OnBug = Callable[[Exception], Awaitable[None]]


class NotWelcome(HranaProtocolError):
    """The hello was answered with an error: the connection must be closed."""


@dataclass(slots=True)
class _Job:
    request_id: int
    size: int
    work: Callable[[], Awaitable[bytes]]


@dataclass(slots=True, eq=False)
class _Stream:
    """A stream by the client's number. `stream` is None if it could not be opened."""

    stream: Stream | None
    refusal: Failure | None = None
    jobs: deque[_Job] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    cursors: dict[int, Cursor | None] = field(default_factory=dict)
    """Open cursors; None for one that failed to open, until the client closes it."""


class WsSession:
    """One connection. `take` messages as they come, then `close`."""

    def __init__(
        self,
        service: SqlService,
        authenticate: Authenticate,
        *,
        call: Call,
        headers: Headers,
        version: int,
        encoding: WsEncoding = WS_JSON,
        send: SendMessage,
        on_bug: OnBug,
    ) -> None:
        """`call`: what the handshake said, its access and caller to be replaced; `headers`: the handshake's.

        `send` raises OSError when the client is gone. `on_bug` is told of what should not happen, and closes.
        """
        self._service = service
        self._authenticate = authenticate
        self._call = call
        self._headers = headers
        self._version = version
        self._encoding = encoding
        self._send = send
        self._on_bug = on_bug
        self._is_welcome = False
        self._is_over = False
        self._streams: dict[int, _Stream] = {}
        self._closing: set[_Stream] = set()
        self._cursors: dict[int, _Stream] = {}
        self._texts = StoredTexts()
        self._tasks: set[asyncio.Task[None]] = set()
        self._parallel = asyncio.Semaphore(PARALLEL_MAX)
        self._waiting = 0
        self._waiting_bytes = 0
        self._room = asyncio.Event()

    async def take(self, frame: str | bytes) -> None:
        """Take a message; returns when the next one may come. Raises HranaProtocolError, OSError."""
        message = self._encoding.decode(frame)
        if isinstance(message, Hello):
            await self._hello(message)
            return
        if not self._is_welcome:
            raise HranaProtocolError("the first message must be a hello")
        await self._request(message, len(frame))
        while self._is_full():
            self._room.clear()
            await self._room.wait()

    def _is_full(self) -> bool:
        return not self._is_over and (self._waiting >= REQUESTS_MAX or self._waiting_bytes >= WAITING_BYTES_MAX)

    async def finish(self) -> None:
        """Return when all that was taken has its answer."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """End all streams: what runs is cancelled, transactions are rolled back."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for stream in [*self._streams.values(), *self._closing]:
            self._detach(stream)
        self._streams.clear()
        self._cursors.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- hello ----------------------------------------------------------------------------------------------------

    async def _hello(self, hello: Hello) -> None:
        """Check the token; without one, what the handshake's headers say counts."""
        if self._is_welcome and self._version < 2:
            raise HranaProtocolError("a second hello needs version 2 of the protocol")
        if hello.jwt:
            if len(hello.jwt) > JWT_CHARS_MAX:
                raise HranaProtocolError(f"a token may have {JWT_CHARS_MAX} characters")
            caller = b"Bearer " + hello.jwt.encode("utf-8", "replace")
            self._headers = [(b"authorization", caller)]
            self._call = replace(self._call, caller=caller)
        try:
            access = self._authenticate(self._headers)
            access.check_database(self._call.database)
        except PandoError as error:
            await self._send(self._encoding.hello_error(failure_of(error)))
            raise NotWelcome(error.message) from error
        self._call = replace(self._call, access=access)
        self._is_welcome = True
        await self._send(self._encoding.hello_ok)

    def _call_now(self) -> Call:
        """Give what the connection may do; a token is looked at for each request, since it may expire."""
        access = self._authenticate(self._headers)
        if access is not self._call.access:
            access.check_database(self._call.database)  # a database may have been given a key of its own
            self._call = replace(self._call, access=access)
        return self._call

    # -- requests -------------------------------------------------------------------------------------------------

    async def _request(self, asked: Asked, size: int) -> None:
        request = asked.request
        wanted = for_database(request)
        if wanted is not None:
            number, wire = wanted
            stream = self._stream(number)
            cursor_id = request.cursor_id if isinstance(request, OpenCursor) else None
            answer = self._start(asked.request_id, stream, wire, cursor_id, size)
        elif isinstance(request, OpenStream):
            answer = self._open_stream(asked.request_id, request.stream_id)
        elif isinstance(request, CloseStream):
            answer = self._close_stream(asked.request_id, request.stream_id, size)
        elif isinstance(request, FetchCursor | CloseCursor):
            answer = self._use_cursor(asked.request_id, request, size)
        else:
            assert isinstance(request, ForTexts)
            answer = self._keep_text(asked.request_id, request)
        if answer is not None:
            await self._send(answer)

    def _stream(self, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None:
            raise HranaProtocolError(f"stream {number} is not open")
        return stream

    def _open_stream(self, request_id: int, number: int) -> bytes:
        if number in self._streams:
            raise HranaProtocolError(f"stream {number} is open already")
        if len(self._streams) >= 2 * STREAMS_PER_CONNECTION_MAX:
            raise HranaProtocolError("too many streams; close those that could not be opened too")
        try:
            if len(self._streams) >= STREAMS_PER_CONNECTION_MAX:
                words = f"a connection may have {STREAMS_PER_CONNECTION_MAX} open streams; close some"
                raise Overloaded(words, code="STREAMS_TOO_MANY")
            self._streams[number] = _Stream(self._service.attach(self._call.database))
        except PandoError as error:
            self._streams[number] = _Stream(None, failure_of(error))
            return self._encoding.response(request_id, failure_of(error))
        return self._encoding.response(request_id, "open_stream")

    def _close_stream(self, request_id: int, number: int, size: int) -> bytes | None:
        """Close after what is under way. The number is free at once; an unknown one is fine."""
        stream = self._streams.pop(number, None)
        if stream is None or stream.stream is None:
            return self._encoding.response(request_id, "close_stream")
        self._closing.add(stream)
        self._add(stream, _Job(request_id, size, partial(self._end_stream, request_id, stream)))
        return None

    async def _end_stream(self, request_id: int, stream: _Stream) -> bytes:
        self._detach(stream)
        return self._encoding.response(request_id, "close_stream")

    def _detach(self, stream: _Stream) -> None:
        self._closing.discard(stream)
        for cursor_id in stream.cursors:
            self._cursors.pop(cursor_id, None)
        stream.cursors.clear()
        if stream.stream is not None:
            self._service.detach(stream.stream)

    def _keep_text(self, request_id: int, request: ForTexts) -> bytes:
        if isinstance(request, StoreSqlRequest):
            return self._encoding.response(request_id, self._texts.store(request.sql_id, request.sql) or "store_sql")
        self._texts.close(request.sql_id)
        return self._encoding.response(request_id, "close_sql")

    # -- SQL ------------------------------------------------------------------------------------------------------

    def _start(
        self, request_id: int, stream: _Stream, wire: WireRequest, cursor_id: int | None, size: int
    ) -> bytes | None:
        """Put a request into its stream's row; gives the answer if it cannot run. Texts are looked up now."""
        if cursor_id is not None and cursor_id in self._cursors:
            raise HranaProtocolError(f"cursor {cursor_id} is open already")
        failure = self._refusal(stream, wire, cursor_id)
        if failure is None:
            try:
                call = self._call_now()
            except PandoError as error:
                failure = failure_of(error)
        if cursor_id is not None:
            self._note_cursor(stream, cursor_id)
        if failure is not None:
            return self._encoding.response(request_id, failure)
        arguments = (stream, to_request(wire, self._texts.stored), call, replication_index(wire))
        work = self._execute if cursor_id is None else partial(self._open_cursor, cursor_id)
        self._add(stream, _Job(request_id, size, partial(work, request_id, *arguments)))
        return None

    def _refusal(self, stream: _Stream, wire: WireRequest, cursor_id: int | None) -> Failure | None:
        if stream.stream is None:
            return Failure("The stream could not be opened", "STREAM_NOT_OPEN")
        if cursor_id is not None and len(self._cursors) >= CURSORS_MAX:
            return Failure(f"a connection may have {CURSORS_MAX} open cursors; close some", "CURSORS_TOO_MANY")
        return self._texts.refusal(sql_ids(wire))

    async def _execute(self, request_id: int, stream: _Stream, request: Request, call: Call, min_txid: int) -> bytes:
        assert stream.stream is not None
        result, txid = await self._service.run_attached(stream.stream, request, call, min_txid)
        return self._encoding.response(request_id, result, txid or None)

    # -- cursors --------------------------------------------------------------------------------------------------

    def _note_cursor(self, stream: _Stream, cursor_id: int) -> None:
        """Take the number: it is in use until it is closed, even if opening fails."""
        if len(self._cursors) >= 2 * CURSORS_MAX:
            raise HranaProtocolError("too many cursors; close those that could not be opened too")
        self._cursors[cursor_id] = stream
        stream.cursors[cursor_id] = None

    async def _open_cursor(
        self, cursor_id: int, request_id: int, stream: _Stream, request: Request, call: Call, min_txid: int
    ) -> bytes:
        assert stream.stream is not None
        result, _ = await self._service.run_attached(stream.stream, request, call, min_txid)
        if not isinstance(result, BatchResult):
            return self._encoding.response(request_id, result)
        if cursor_id in stream.cursors:
            stream.cursors[cursor_id] = Cursor(result, self._encoding.entries)
        return self._encoding.response(request_id, "open_cursor")

    def _use_cursor(self, request_id: int, request: FetchCursor | CloseCursor, size: int) -> bytes | None:
        """Fetch or close after what is under way in the cursor's stream. To close an unknown one is fine."""
        stream = self._cursors.get(request.cursor_id)
        if isinstance(request, FetchCursor):
            if stream is None:
                raise HranaProtocolError(f"cursor {request.cursor_id} is not open")
            work = partial(self._fetch, request_id, stream, request.cursor_id, request.max_count)
        else:
            if stream is None:
                return self._encoding.response(request_id, "close_cursor")
            work = partial(self._close_cursor, request_id, stream, request.cursor_id)
        self._add(stream, _Job(request_id, size, work))
        return None

    async def _fetch(self, request_id: int, stream: _Stream, cursor_id: int, count_max: int) -> bytes:
        cursor = stream.cursors.get(cursor_id)
        if cursor is None:
            return self._encoding.response(request_id, Failure("The cursor could not be opened", "CURSOR_NOT_OPEN"))
        entries = cursor.fetch(count_max)
        return self._encoding.fetched(request_id, entries, is_done=cursor.is_done)

    async def _close_cursor(self, request_id: int, stream: _Stream, cursor_id: int) -> bytes:
        if stream.cursors.pop(cursor_id, None) is not None or self._cursors.get(cursor_id) is stream:
            self._cursors.pop(cursor_id, None)
        return self._encoding.response(request_id, "close_cursor")

    # -- order ----------------------------------------------------------------------------------------------------

    def _add(self, stream: _Stream, job: _Job) -> None:
        stream.jobs.append(job)
        self._waiting += 1
        self._waiting_bytes += job.size
        if stream.task is None:
            stream.task = asyncio.get_running_loop().create_task(self._work(stream))
            self._tasks.add(stream.task)
            stream.task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told already

    async def _work(self, stream: _Stream) -> None:
        """Do what a stream has to do, in order."""
        try:
            while stream.jobs:
                await self._do(stream, stream.jobs.popleft())
        except OSError:
            return  # the client is gone, which `close` will hear too
        except Exception as error:
            await self._on_bug(error)
            raise
        finally:
            stream.task = None
            if stream.jobs:
                self._is_over = True
                self._room.set()

    async def _do(self, stream: _Stream, job: _Job) -> None:
        may_go = stream.stream is not None and stream.stream.holds
        try:
            async with nullcontext() if may_go else self._parallel:
                try:
                    answer = await job.work()
                except PandoError as error:
                    answer = self._encoding.response(job.request_id, failure_of(error))
                await self._send(answer)
        finally:
            self._waiting -= 1
            self._waiting_bytes -= job.size
            self._room.set()
