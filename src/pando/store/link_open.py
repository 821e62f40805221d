"""Opening links: dialling (unix socket, or TCP with the HTTP upgrade), accepting, the handshake and its time limit.

Used by the store (accepts links, dials its upstream) and by web processes and commands (dial). `on_open` is called in
the same loop turn in which the handshake ends, before any further message is decoded, and returns what treats those
messages. Not here: reconnecting, and what is said on the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from pando import limits
from pando.clock import random_bytes
from pando.errors import InvalidRequest, NotReady, PandoError, PrimaryUnavailable, Unauthorized
from pando.store.handshake import (
    HANDSHAKE_DECODER,
    HANDSHAKE_FRAME_BYTES_MAX,
    NONCE_BYTES,
    Acceptor,
    Dialer,
    LinkKind,
    Peer,
    rejection,
)
from pando.store.link import Decoder, Link, LinkEnd, LinkEndKind, OnClosed, OnMessages

LINK_PATH: Final = "/cluster/link"
UPGRADE_NAME: Final = "pando-link"
SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: pando-link\r\n\r\n"
_HTTP_HEAD_BYTES_MAX: Final = 8 * limits.KIB
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHandlers:
    """What treats the messages of a link once its handshake is done."""

    decoder: Decoder
    on_messages: OnMessages
    on_closed: OnClosed
    replace_oversized: Callable[[Any], Any] | None = None


OnOpen = Callable[[Link, Peer], LinkHandlers]


def new_dialer(kind: LinkKind, node: str, *, key: bytes | None = None, url: str = "", index: int = 0) -> Dialer:
    """Make the dialling side of a handshake with a fresh nonce."""
    return Dialer(kind=kind, node=node, nonce=random_bytes(NONCE_BYTES), key=key, url=url, index=index)


def new_acceptor(node: str, *, key: bytes | None = None) -> Acceptor:
    """Make the accepting side of a handshake with a fresh nonce."""
    return Acceptor(node=node, nonce=random_bytes(NONCE_BYTES), key=key)


def _install(link: Link, handlers: LinkHandlers) -> None:
    link.frame_bytes_max = limits.LINK_FRAME_BYTES_MAX
    link.decoder = handlers.decoder
    link.on_messages = handlers.on_messages
    link.on_closed = handlers.on_closed
    link.replace_oversized = handlers.replace_oversized


# -- accepting --


def accept_link(acceptor: Acceptor, on_open: OnOpen, *, time_limit_s: float = limits.LINK_AUTH_S) -> Link:
    """Make the protocol object for an incoming connection: `loop.create_unix_server(lambda: accept_link(...), path)`.

    A connection that fails the handshake or takes longer than the limit is closed and never gets to `on_open`;
    a PandoError raised by `on_open` is told to the other side as a rejection. What `on_open` sends follows the Welcome.
    """
    loop = asyncio.get_running_loop()
    link = Link(HANDSHAKE_DECODER, _ignore, _ignore, loop=loop)
    link.frame_bytes_max = HANDSHAKE_FRAME_BYTES_MAX
    timer = loop.call_later(time_limit_s, link.close, "no proof in time", LinkEndKind.REFUSED)

    def on_closed(_end: LinkEnd) -> None:
        timer.cancel()

    def on_messages(messages: list[Any]) -> None:
        try:
            for message in messages:
                answer = acceptor.receive(message)
                if acceptor.peer is not None:
                    handlers = on_open(link, acceptor.peer)
                    timer.cancel()
                    link.send_first(answer)
                    _install(link, handlers)
                    return
                link.send_first(answer)
        except PandoError as error:
            link.send_first(rejection(error))
            link.close(error.message, LinkEndKind.REFUSED)

    link.on_messages = on_messages
    link.on_closed = on_closed
    return link


def _ignore(_value: object) -> None:
    """Placeholder until the real callback is set, in the same call."""


async def adopt_socket(sock: socket.socket, already_read: bytes, acceptor: Acceptor, on_open: OnOpen) -> Link:
    """Make a link of an HTTP connection that a web process handed over: answer 101, then shake hands.

    `already_read` is what the web process had read: the whole request header and whatever followed. Raises OSError.
    """
    _tune(sock)
    loop = asyncio.get_running_loop()
    _head, _, rest = already_read.partition(b"\r\n\r\n")
    link = accept_link(acceptor, on_open)

    def on_connected(connected: Link) -> None:
        connected.write_raw(SWITCHING)
        if rest:
            connected.data_received(rest)

    link.on_connected = on_connected
    await loop.connect_accepted_socket(lambda: link, sock)
    return link


def _tune(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # not every option exists everywhere; the heartbeat is what counts
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


# -- dialling --


async def dial_unix(path: str, dialer: Dialer, on_open: OnOpen, *, time_limit_s: float = limits.LINK_AUTH_S) -> Link:
    """Open a link to the store of this node. Raises NotReady when nobody answers."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(time_limit_s):
            link, opened = _dialling_link(dialer, on_open)
            await loop.create_unix_connection(lambda: link, path)
            await _finish(link, opened)
    except (OSError, TimeoutError) as error:
        raise NotReady(f"the store process of this node does not answer: {_words(error)}") from error
    return link


async def dial_tcp(url: str, dialer: Dialer, on_open: OnOpen, *, time_limit_s: float = limits.LINK_AUTH_S) -> Link:
    """Open a link to the store of another node.

    Raises PrimaryUnavailable when nobody answers, Unauthorized when refused.
    """
    loop = asyncio.get_running_loop()
    host, port, context = split_node_url(url)
    try:
        async with asyncio.timeout(time_limit_s):
            link, opened = _dialling_link(dialer, on_open)
            upgrade = _Upgrade(link, f"{host}:{port}")
            await loop.create_connection(lambda: upgrade, host, port, ssl=context)
            await upgrade.wait()
            await _finish(link, opened)
    except (OSError, TimeoutError) as error:
        raise PrimaryUnavailable(f"{url} cannot be reached: {_words(error)}") from error
    return link


def split_node_url(url: str) -> tuple[str, int, ssl.SSLContext | None]:
    """Give host, port and TLS context of a node's address `http(s)://host[:port]`; raises InvalidRequest."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise InvalidRequest(f"{url!r} is no address of a node: use http://host:port")
    is_tls = parts.scheme == "https"
    return host, port or (443 if is_tls else 80), ssl.create_default_context() if is_tls else None


def _words(error: BaseException) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _dialling_link(dialer: Dialer, on_open: OnOpen) -> tuple[Link, asyncio.Future[None]]:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    link = Link(HANDSHAKE_DECODER, _ignore, _ignore, loop=loop)
    link.frame_bytes_max = HANDSHAKE_FRAME_BYTES_MAX

    def on_messages(messages: list[Any]) -> None:
        try:
            for message in messages:
                answer = dialer.receive(message)
                if answer is not None:
                    link.send(answer)
                if dialer.peer is not None:
                    _install(link, on_open(link, dialer.peer))
                    _settle(opened, None)
                    return
        except PandoError as error:
            _settle(opened, error)
            link.close(error.message, LinkEndKind.REFUSED)

    link.on_messages = on_messages
    link.on_closed = lambda end: _settle(opened, ConnectionError(f"the link was closed during the handshake ({end})"))
    link.send(dialer.hello)
    return link, opened


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


async def _finish(link: Link, opened: asyncio.Future[None]) -> None:
    try:
        await opened
    except BaseException:
        link.close("the handshake did not finish")
        raise


class _Upgrade(asyncio.Protocol):
    """Sends the HTTP upgrade, reads the answer's header, then gives the transport to the link."""

    def __init__(self, link: Link, host: str) -> None:
        self._link = link
        self._host = host
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = (
            f"GET {LINK_PATH} HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE_NAME}\r\n\r\n"
        )
        self._transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, separator, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not separator:
            if len(head) > _HTTP_HEAD_BYTES_MAX:
                self._refuse(NotReady("the other side does not speak HTTP"))
            return
        status = head.split(b" ", 2)[1:2]
        if status != [b"101"]:
            self._refuse(_upgrade_error(status[0] if status else b"", rest))
            return
        transport = cast("asyncio.Transport", self._transport)
        transport.set_protocol(self._link)
        self._link.connection_made(transport)
        _settle(self.done, None)
        if rest:
            self._link.data_received(rest)

    async def wait(self) -> None:
        """Return once the link has the connection; a caller that gives up closes it."""
        try:
            await self.done
        except BaseException:
            if self._transport is not None:
                self._transport.abort()
            raise

    def _refuse(self, error: PandoError) -> None:
        _settle(self.done, error)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        _settle(self.done, error or ConnectionResetError("the connection was closed before the upgrade"))


def _upgrade_error(status: bytes, body: bytes) -> PandoError:
    told = body.decode(errors="replace")[:300]
    words = f"the other node answered {status.decode(errors='replace')[:3]} to the link: {told}"
    if status in {b"401", b"403"}:
        return Unauthorized(words)
    return PrimaryUnavailable(words)
