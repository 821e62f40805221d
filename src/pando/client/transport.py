"""Carries requests out over HTTP: one kept connection to each node. Standard library only.

Whether a request can have arrived is what matters most here: a connection that was closed meanwhile is noticed before
anything is sent, and a request that was not handed over whole counts as not sent. Not here: asyncio
(`pando.client.async_transport`), what follows from a failure (`pando.client.judging`). Not for concurrent use.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Final

from pando.client.judging import Broken, Reply, Send
from pando.client.targets import Address
from pando.limits import MIB

IDLE_S: Final = 30.0
"""A connection that was idle for longer is not used again; nodes keep theirs for longer."""
ANSWER_BYTES_MAX: Final = 64 * MIB
"""Longest answer that is read; nodes send at most half of it."""
_PROBES: Final = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))
"""After these seconds and tries the system takes a machine that says nothing for dead."""


def watch_peer(connection: socket.socket) -> None:
    """Have the system find out when the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES:
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Transport:
    """Connections to the nodes, opened when needed."""

    def __init__(self, connect_timeout_s: float, now: Callable[[], float]) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._now = now
        self._kept: dict[Address, tuple[socket.socket, float]] = {}
        self._process = os.getpid()

    def send(self, request: Send) -> Reply | Broken:
        """Send a request and read its answer, or say that it failed and whether it was sent."""
        node = request.node
        if self._process != os.getpid():  # after a fork the sockets belong to both processes
            self.close()
            self._process = os.getpid()
        try:
            head = _head(request)
            connection = self._take(node, request.timeout_s)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            return Broken(_describe(error, "nobody answers there"), is_sent=False)
        is_sent = False
        try:
            connection.sendall(head + request.body)  # in one piece: the node begins when all of it is there
            is_sent = True
            response = http.client.HTTPResponse(connection, method=request.method)
            response.begin()
            reply = Reply(response.status, response.headers.get("pando-bookmark", ""), _read(response))
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            return Broken(_describe(error, f"no answer within {request.timeout_s:g} s"), is_sent=is_sent)
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._kept[node] = (connection, self._now())
        return reply

    def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        while self._kept:
            self._kept.popitem()[1][0].close()

    def _take(self, node: Address, timeout_s: float) -> socket.socket:
        """Give a connection that nobody closed, out of those that are kept."""
        kept = self._kept.pop(node, None)
        if kept is not None:
            connection, used_at = kept
            if self._now() - used_at < IDLE_S and not _is_readable(connection):
                connection.settimeout(timeout_s)
                return connection
            connection.close()
        made = socket.create_connection((node.host, node.port), min(self._connect_timeout_s, timeout_s))
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_peer(made)
            if node.is_tls:
                made = ssl.create_default_context().wrap_socket(made, server_hostname=node.host)
            made.settimeout(timeout_s)
        except BaseException:
            made.close()
            raise
        return made


def _head(request: Send) -> bytes:
    """Write everything before the body; raises UnicodeError for a host that cannot be."""
    node = request.node
    host = f"[{node.host}]" if ":" in node.host else node.host.encode("idna").decode("ascii")
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {host}:{node.port}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body:
        lines.append(f"content-length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _is_readable(connection: socket.socket) -> bool:
    """Tell whether something came although nothing was asked for: the end of the connection."""
    with contextlib.suppress(OSError, ValueError):
        if hasattr(select, "poll"):  # select() cannot look at descriptors of 1024 and more
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([connection], [], [], 0)[0])
    return True


def _read(response: http.client.HTTPResponse) -> bytes:
    body = response.read(ANSWER_BYTES_MAX + 1)
    if len(body) > ANSWER_BYTES_MAX:
        raise ValueError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    response.close()
    return body


def _describe(error: Exception, timed_out: str) -> str:
    if isinstance(error, TimeoutError):
        return timed_out
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed before an answer came"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
