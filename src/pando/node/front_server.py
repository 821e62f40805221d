"""The HTTP server of the front: takes connections within a bound, and turns errors into answers.

Not here: passing requests on (`pando.node.front_proxy`), the process (`pando.node.front`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pando.errors import Overloaded, PandoError
from pando.log import EventLog, bridge_logger
from pando.node.ending import (
    LAST_S,
    LINGER_S,
    READING,
    STOPS,
    STOPS_IN_BODY,
    STOPS_IN_READ,
    STOPS_IN_REQUEST,
)
from pando.node.front_ending import Lingering, Stopping
from pando.node.front_nodes import Rotation
from pando.node.front_proxy import HEADER_BYTES_MAX, AnswerBroke, Proxy, error_answer
from pando.node.front_websocket import handle_websocket, is_websocket
from pando.node.plain_answers import full_answer
from pando.waiting import until

KEEPALIVE_S: Final = 75.0
"""A client's connection is closed after this time without a request."""
REFUSED_MAX: Final = 1024
"""Connections past the limit that are open at once to be told so; more are closed without a word."""
REFUSED_S: Final = 2.0
"""How long a connection past the limit may take to send the request that is refused."""
_FULL_LOG_S: Final = 10.0
_TOO_MANY: Final = full_answer("this one was idle the longest", is_unread=True)


class FrontServer(web.Server):
    """The HTTP server of the front, with a bound on its connections.

    Past the bound the connection that was idle for longest is told to go; when none is idle, the newcomer is.
    """

    def __init__(
        self,
        proxy: Proxy,
        rotation: Rotation,
        session: aiohttp.ClientSession,
        *,
        limit: int,
        log: EventLog,
        stopping: Stopping,
    ) -> None:
        super().__init__(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            logger=_server_logger(log),
        )
        self._proxy = proxy
        self._rotation = rotation
        self._session = session
        self._limit = limit
        self._log = log
        self._idle: OrderedDict[web.RequestHandler, None] = OrderedDict()
        self._open: set[web.RequestHandler] = set()
        self._refused: set[web.RequestHandler] = set()
        self._logged_at = -_FULL_LOG_S
        self._stopping = stopping
        self._requests: dict[web.RequestHandler, web.BaseRequest] = {}
        """Requests under way."""
        self._lingering: set[Lingering] = set()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Called by the protocol."""
        super().connection_made(handler, transport)
        self._open.add(handler)
        self._idle[handler] = None
        if len(self._open) - len(self._refused) > self._limit:
            self._make_room(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Called by the protocol."""
        super().connection_lost(handler, exc)
        self._open.discard(handler)
        self._refused.discard(handler)
        self._idle.pop(handler, None)

    def _make_room(self, newcomer: web.RequestHandler) -> None:
        oldest, _ = self._idle.popitem(last=False)
        if oldest is not newcomer:
            self._tell_full(1)
            if oldest.transport is not None:
                oldest.transport.write(_TOO_MANY)
            self._drop(oldest)
        elif len(self._refused) >= REFUSED_MAX:
            self._drop(newcomer)
        else:
            self._tell_full(0)
            self._refused.add(newcomer)
            self._loop.call_later(REFUSED_S, newcomer.force_close)

    def _drop(self, handler: web.RequestHandler) -> None:
        self._open.discard(handler)  # now, and not when the transport says so: the place is given away
        handler.force_close()

    def _full(self) -> str:
        return f"{self._limit} connections are open, which is the limit; close this one, or try again later"

    def _tell_full(self, closed: int) -> None:
        if self._loop.time() - self._logged_at >= _FULL_LOG_S:
            self._logged_at = self._loop.time()
            self._log.emit("web.connections_full", open=len(self._open), limit=self._limit, closed=closed)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._idle.pop(connection, None)
        self._requests[connection] = request
        try:
            answer = await self._answer(request, connection)
            if connection in self._refused or self._stopping.is_set:
                answer.force_close()
            return answer
        except AnswerBroke:
            if request.transport is not None:
                request.transport.abort()  # whatever the framing, the client must not take it for the end
            connection.force_close()
            return web.Response()  # goes nowhere
        finally:
            self._requests.pop(connection, None)
            if connection in self._open and connection not in self._refused:
                self._idle[connection] = None

    async def _answer(self, request: web.BaseRequest, connection: web.RequestHandler) -> web.StreamResponse:
        try:
            if connection in self._refused:
                raise Overloaded(self._full())
            if is_websocket(request):
                return await handle_websocket(request, self._rotation, self._session, self._stopping)
            return await self._proxy.handle(request)
        except PandoError as error:
            return error_answer(error)

    # -- the end, as `pando.node.ending` has it --

    @property
    def is_busy(self) -> bool:
        """Whether requests are under way."""
        return bool(self._requests)

    async def end(self, answer_s: float, *, last_s: float = LAST_S) -> None:
        """End all connections; requests under way have `answer_s` seconds."""
        self._stopping.begin()
        await until(lambda: not self._open, last_s)
        for connection in list(self._open):
            if not connection._request_in_progress:  # it says so in no other way, and may still be sending
                self._leave(connection, STOPS)
        await until(lambda: not self._open and not any(one.has_unsent for one in self._lingering), answer_s)
        for connection in list(self._open):
            self._give_up(connection)
        await until(lambda: not self._lingering, LINGER_S)
        for lingering in list(self._lingering):
            lingering.abort()

    def _give_up(self, connection: web.RequestHandler) -> None:
        request = self._requests.get(connection)
        if request is None or request.writer.output_size or is_websocket(request):
            self._drop(connection)
        elif not request.content.is_eof():
            self._leave(connection, STOPS_IN_BODY)
        else:
            self._leave(connection, STOPS_IN_READ if request.method in READING else STOPS_IN_REQUEST)

    def _leave(self, connection: web.RequestHandler, words: bytes) -> None:
        transport, connection.transport = connection.transport, None  # else it would be closed at once
        connection.connection_lost(None)
        if transport is not None and not transport.is_closing():
            Lingering(transport, self._lingering).say(words)


class _Complaints(logging.Filter):
    """Leaves out what clients did wrong: they were told, and could fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is for the operator."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


def _server_logger(log: EventLog) -> logging.Logger:
    for name in ("pando.front.http", "aiohttp", "asyncio"):
        bridge_logger(name, log)
    logger = logging.getLogger("pando.front.http")
    logger.filters = [_Complaints()]
    return logger
