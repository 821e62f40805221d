"""The WebSocket protocol class: uvicorn's (on the `websockets` package), with bounds of our own.

A connection comes here from `pando.node.http_protocol` when its request asks for the upgrade; it stays among the
connections that the gate looks at, which never ends one for being idle. Not here: messages (`pando.api.websocket`).
"""

from __future__ import annotations

import socket
from asyncio import BaseTransport
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from pando.node.plain_answers import plain_answer

PING_S: Final = 30.0
"""Pause between pings: they keep proxies from ending a silent connection. No answer is waited for, since some clients
read only while they expect something."""
FRAGMENTS_MAX: Final = 1024
"""Frames of one message; each costs more memory than its bytes."""
RESTARTS: Final = 1012
"""Code of the close when the node stops and has answered all that it has taken: the rest was not done."""
GOES: Final = 1001
"""Code of the close when the node stops, and something was not answered in time."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A peer that is gone without a word is noticed by the kernel, after two minutes."""
_TOO_MANY: Final = plain_answer(
    "503 Service Unavailable", "too many open WebSockets; try again later", "OVERLOADED", retryable=True
)


class NodeWebSocket(WebSocketsSansIOProtocol):
    """One connection. Use `bind_limit` to get the class that uvicorn is given."""

    sockets_max: int
    sockets: set[NodeWebSocket]
    """Open connections of the process."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as uvicorn calls it
        super().__init__(*args, **options)
        self._is_new = True

    def connection_made(self, transport: BaseTransport) -> None:
        """The HTTP protocol gives the connection."""
        super().connection_made(transport)
        self.sockets.add(self)
        keep_alive(transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.sockets.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came in; the first are the whole request with the upgrade."""
        if not self._is_new:
            super().data_received(data)
            return
        self._is_new = False
        if len(self.sockets) > self.sockets_max:
            self.transport.write(_TOO_MANY)
            self.transport.close()
            return
        super().data_received(data)
        if not self.handshake_initiated:  # refused by the parser, which has written why
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message."""
        if len(self.frames) >= FRAGMENTS_MAX:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have {FRAGMENTS_MAX} frames")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    # -- the end of the server; see `pando.node.ending` --

    def end_after_answer(self) -> None:
        """The handler is told, answers what it has taken, and then closes."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": RESTARTS})

    def leave(self) -> None:
        """The handler does that."""

    def is_in_flight(self) -> bool:
        """Its handler ends it."""
        return not self.transport.is_closing()

    def has_unsent(self) -> bool:
        """Tell whether the kernel has not yet taken all of what was sent."""
        return self.transport.get_write_buffer_size() > 0

    def give_up(self) -> None:
        """Close, with a code that says nothing of what was not answered."""
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self.conn.send_close(GOES)
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    # -- what the gate asks of every connection --

    def idle_since(self, _keep_alive_s: float) -> float | None:
        """Never idle: its streams may hold transactions and texts."""
        return None

    def waits_too_long(self, _now: float) -> bool:
        """Its request is complete."""
        return False

    def has_idled(self, _now: float) -> bool:
        """Pings find out whether it is still there."""
        return False


def keep_alive(connection: socket.socket | None) -> None:
    """Have the kernel ask now and then whether the peer is still there."""
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def bind_limit(sockets_max: int) -> type[NodeWebSocket]:
    """Give the protocol class whose connections share this limit."""
    return type("BoundWebSocket", (NodeWebSocket,), {"sockets_max": sockets_max, "sockets": set()})
