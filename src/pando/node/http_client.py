"""One HTTP exchange with another process of Pando: a sibling web process (unix socket) or another node (TCP).

A request body may be a stream; an answer is held whole, within a bound, or comes piece by piece (`download`). A
connection is used once. Not here: retries, proxying for outside clients (`pando.node.front`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import httptools

from pando import limits
from pando.errors import OutcomeUnknown, PandoError, PrimaryUnavailable, ResponseTooLarge
from pando.store.link_open import split_node_url

Headers = list[tuple[bytes, bytes]]
Body = bytes | AsyncIterator[bytes]

ANSWER_BYTES_MAX: Final = limits.LINK_FRAME_BYTES_MAX
_READ_BYTES: Final = 256 * limits.KIB
_CONNECT_S: Final = 5.0
HOP_HEADERS: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
"""Headers that belong to one connection and are not passed on."""


class Answer:
    """Collects an answer while it is parsed."""

    def __init__(self) -> None:
        self.headers: Headers = []
        self.body = bytearray()
        self.is_complete = False
        self.has_headers = False

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.has_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self.body += data

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_complete = True


def passed_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Give the headers that travel on to another process."""
    return [(name, value) for name, value in headers if name not in HOP_HEADERS]


async def exchange(
    target: str, method: str, path: str, headers: Headers, body: Body, *, timeout_s: float
) -> tuple[int, Headers, bytes]:
    """Send a request and give status, headers and body of the answer. `target`: `http(s)://host:port` or a unix path.

    `headers` need `content-length` for a streamed body of known length, otherwise it is sent in chunks. Raises
    PrimaryUnavailable (nobody answers, nothing was sent), OutcomeUnknown (the connection broke), ResponseTooLarge.
    """
    reader, writer = await _connect(target)
    try:
        async with asyncio.timeout(timeout_s):
            head = _head(target, method, path, headers, body)
            if isinstance(body, bytes):
                await _send(writer, head, body)
                return await _read(reader)
            return await _send_and_read(reader, writer, head, body)
    except (OSError, TimeoutError, httptools.HttpParserError) as error:
        reason = str(error) or "no answer in time"
        raise OutcomeUnknown(f"{target} did not answer ({reason}); it may have done it") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@dataclass(slots=True)
class Download:
    """An answer that is still coming."""

    status: int
    headers: Headers
    _answer: Answer
    _next: Callable[[], Awaitable[None]]

    def header(self, name: bytes) -> bytes:
        """Give a header's value, empty if it is missing."""
        return next((value for key, value in self.headers if key == name), b"")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body in pieces. Raises PrimaryUnavailable if it breaks off."""
        while True:
            if self._answer.body:
                piece = bytes(self._answer.body)
                self._answer.body.clear()
                yield piece
            elif self._answer.is_complete:
                return
            else:
                await self._next()


@contextlib.asynccontextmanager
async def download(
    target: str, path: str, headers: Headers, *, pause_s: float, method: str = "GET", body: bytes = b""
) -> AsyncIterator[Download]:
    """Ask for what may be too large to hold. Raises PrimaryUnavailable, also while the body comes."""
    reader, writer = await _connect(target)
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)

    async def more() -> None:
        try:
            async with asyncio.timeout(pause_s):
                data = await reader.read(_READ_BYTES)
            if not data:
                raise ConnectionError("the connection was closed before the answer was complete")
            parser.feed_data(data)
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            raise PrimaryUnavailable(f"{target} broke off ({error or 'no answer in time'})") from error

    try:
        await _send(writer, _head(target, method, path, headers, body), body)
        while not answer.has_headers:
            await more()
        yield Download(parser.get_status_code(), passed_headers(answer.headers), answer, more)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(_CONNECT_S):
            if target.startswith("/"):
                return await asyncio.open_unix_connection(target)
            host, port, context = split_node_url(target)
            return await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise PrimaryUnavailable(f"{target} cannot be reached ({reason}); nothing was done") from error


def _head(target: str, method: str, path: str, headers: Headers, body: Body) -> bytes:
    kept = [(name, value) for name, value in passed_headers(headers) if name != b"content-length"]
    if not any(name == b"host" for name, _ in kept):
        kept.append((b"host", b"localhost" if target.startswith("/") else target.partition("://")[2].encode()))
    if isinstance(body, bytes):  # who answers a stream early and closes would take the answer away with the rest
        kept.append((b"connection", b"close"))
    length = str(len(body)).encode() if isinstance(body, bytes) else dict(headers).get(b"content-length")
    kept.append((b"content-length", length) if length is not None else (b"transfer-encoding", b"chunked"))
    lines = [f"{method} {path} HTTP/1.1".encode(), *(name + b": " + value for name, value in kept), b"", b""]
    return b"\r\n".join(lines)


async def _send(writer: asyncio.StreamWriter, head: bytes, body: Body) -> None:
    is_chunked = b"transfer-encoding: chunked" in head
    try:
        if isinstance(body, bytes):
            writer.write(head + body)
            await writer.drain()
            return
        writer.write(head)
        async for chunk in body:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked else chunk)
            await writer.drain()
        if is_chunked:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except ConnectionError:
        return  # an answer may be there all the same: reading will tell


async def _send_and_read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: AsyncIterator[bytes]
) -> tuple[int, Headers, bytes]:
    """Send a stream while the answer is waited for: one that comes early means that the rest is not wanted."""
    sending = asyncio.create_task(_send(writer, head, body))
    reading = asyncio.create_task(_read(reader))
    try:
        await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            sending.result()  # raises what broke the stream off
        return await reading
    finally:
        sending.cancel()
        reading.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> tuple[int, Headers, bytes]:
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.is_complete:
        data = await reader.read(_READ_BYTES)
        if not data:
            raise ConnectionError("the connection was closed before the answer was complete")
        parser.feed_data(data)
        if len(answer.body) > ANSWER_BYTES_MAX:
            raise _too_large()
    return parser.get_status_code(), passed_headers(answer.headers), bytes(answer.body)


def _too_large() -> PandoError:
    return ResponseTooLarge(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
