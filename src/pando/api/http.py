"""Requests and answers of the routes that are not hot: a small layer over ASGI.

A handler takes a `Request` and gives a `Response`, or raises a PandoError, which becomes a JSON error. Not here: SQL
(`pando.api.pipeline`, raw ASGI), routing (`pando.api.app`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from pando import limits
from pando.errors import InvalidRequest, PandoError, RequestTooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
_QUERY_SIZE_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `stream` instead of `body` for what is too large to hold; then the headers should give its length."""

    status: int
    headers: Headers
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[["Request"], Awaitable[Response]]


class ClientGone(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


@dataclass(slots=True)
class Request:
    """One request, its body unread."""

    scope: Scope
    receive: Receive
    is_taken: bool = False
    """Whether all of the body has come."""

    @property
    def headers(self) -> Headers:
        """Header pairs, names in small letters."""
        headers: Headers = self.scope["headers"]
        return headers

    def header(self, name: bytes) -> bytes:
        """Give a header's value, empty if it is missing."""
        return next((value for key, value in self.headers if key == name), b"")

    def query(self) -> dict[str, str]:
        """Give the query parameters; raises InvalidRequest."""
        raw: bytes = self.scope["query_string"]
        if len(raw) > _QUERY_SIZE_MAX:
            raise InvalidRequest(f"the query has {len(raw)} bytes, over the limit of {_QUERY_SIZE_MAX}")
        try:
            return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict"))
        except (UnicodeDecodeError, ValueError) as error:
            raise InvalidRequest("the query is no URL-encoded text") from error

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body in pieces as it comes; raises ClientGone."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self.is_taken = not message.get("more_body")
            if message.get("body"):
                yield message["body"]
            if self.is_taken:
                return

    async def drop(self) -> None:
        """Take what is still to come of the body and forget it; raises ClientGone."""
        if not self.is_taken:
            async for _ in self.chunks():
                pass

    async def body(self, size_max: int = limits.MIB) -> bytes:
        """Give the whole body; raises RequestTooLarge."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > size_max:
                raise RequestTooLarge(f"the body is larger than {size_max} bytes")
            parts.append(chunk)
        return b"".join(parts)


def json_response(value: object, status: int = 200) -> Response:
    """Make a JSON answer."""
    return Response(status, [JSON], msgspec.json.encode(value))


def error_body(message: str, code: str, *, retryable: bool = False) -> bytes:
    """Give the JSON of an error (`error` for clients of sqld, the rest for everybody)."""
    return msgspec.json.encode({"error": message, "message": message, "code": code, "retryable": retryable})


def error_response(error: PandoError) -> Response:
    """Make the answer for an error."""
    headers: Headers = [JSON]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, RequestTooLarge):
        headers.append((b"connection", b"close"))
    return Response(error.status, headers, error_body(error.message, error.code, retryable=error.retryable))


async def send_response(response: Response, send: Send, *, is_head: bool = False) -> None:
    """Send an answer."""
    headers = response.headers
    if response.stream is None:
        headers = [*headers, (b"content-length", b"%d" % len(response.body))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if response.stream is None or is_head:
        await send({"type": "http.response.body", "body": b"" if is_head else response.body})
        return
    try:
        async for chunk in response.stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        if isinstance(response.stream, AsyncGenerator):
            await response.stream.aclose()
    await send({"type": "http.response.body", "body": b""})
