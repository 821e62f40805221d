"""Carries requests out over aiohttp, which is imported when the first connection is made.

As in `pando.client.transport`, what matters is whether a request can have arrived: aiohttp does not send POST again by
itself. What counts as not sent: a connection that could not be opened, or had ended before anything was written. Not
here: cancellation, which ends a request and its connection wherever it is (`pando.client.async_connection`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

from pando.client.judging import Broken, Reply, Send
from pando.client.transport import ANSWER_BYTES_MAX, IDLE_S, watch_peer

if TYPE_CHECKING:
    import aiohttp

CONNECTIONS_MAX: Final = 8
"""Connections of one client; it asks one node at a time, cancelled requests may be ending beside that."""
_READ_BYTES: Final = 1 << 18
_closing: Final[set[asyncio.Task[None]]] = set()
"""Closings under way, which nobody waits for; an event loop holds its tasks weakly."""


class AsyncTransport:
    """Connections to the nodes, opened when needed, by an event loop's own session."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._http: aiohttp.ClientSession | None = None

    async def send(self, request: Send) -> Reply | Broken:
        """Send a request and read its answer, or say that it failed and whether it was sent."""
        import aiohttp

        from pando.kept_connections import Ended

        timeout = aiohttp.ClientTimeout(total=request.timeout_s, sock_connect=self._connect_timeout_s)
        url = f"{request.node.url}{request.path}"
        try:
            async with self._session().request(
                request.method, url, data=request.body or None, headers=request.headers, timeout=timeout
            ) as response:
                body = await _read(response)
                return Reply(response.status, response.headers.get("pando-bookmark", ""), body)
        except (
            Ended,
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.InvalidURL,
            UnicodeError,
        ) as error:
            return Broken(_describe(error, "nobody answers there"), is_sent=False)
        except (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError) as error:  # noqa: UP041
            return Broken(_describe(error, f"no answer within {request.timeout_s:g} s"), is_sent=True)

    async def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def drop(self) -> None:
        """Close all connections without waiting for that; where no event loop runs, they are left to the collector."""
        http, self._http = self._http, None
        if http is None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            http.detach()
            return
        closing = loop.create_task(http.close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        from pando.kept_connections import LookingConnector, LookingRequest

        if self._http is None:
            connector = LookingConnector(limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_S, socket_factory=_make_socket)
            self._http = aiohttp.ClientSession(
                connector=connector,
                request_class=LookingRequest,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._http


def _make_socket(address: Any) -> socket.socket:  # noqa: ANN401 - what getaddrinfo gives
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    watch_peer(made)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_READ_BYTES):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _describe(error: BaseException, timed_out: str) -> str:
    import aiohttp

    if isinstance(error, TimeoutError):
        return timed_out
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer came"
    return str(error) or type(error).__name__
