"""Passes one request on to a node and its answer back, bodies as streams in both directions.

A request is sent to another node only when the first one cannot have acted on it: nothing was sent, the node ended the
connection without reading it (`Unread`), or the method is safe and no byte of an answer came. Otherwise a broken
connection is told as what it is, an unknown outcome. Headers of one connection are dropped, all others go through as
they are. Not here: which node is well (`pando.node.front_nodes`),
WebSockets (`pando.node.front_websocket`), the process (`pando.node.front`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict, MultiMapping
from yarl import URL

from pando import limits
from pando.errors import InvalidRequest, NotReady, OutcomeUnknown, PandoError, RetryLater
from pando.kept_connections import Ended, LookingConnector, LookingRequest
from pando.node.front_ending import Stopping
from pando.node.front_nodes import FrontNode, Rotation
from pando.node.plain_answers import UNREAD

CONNECT_S: Final = 2.0
"""How long a node may take to accept a connection before another one is tried."""
ANSWER_S: Final = 600.0
"""How long a node may take to begin its answer, or pause within it: longer than any statement, import or keep-alive."""
UPLOAD_PAUSE_S: Final = 60.0
"""How long a client may pause within its body; after that its connection is given back."""
WHOLE_BYTES_MAX: Final = 64 * limits.KIB
"""Bodies of a known length up to this are passed on in one piece, which is one write instead of several."""
IDLE_S: Final = 3.0
"""Kept connections to nodes are closed after this time, before a node closes them while a request is on its way."""
HEADER_BYTES_MAX: Final = 64 * limits.KIB
"""Longest header line taken from a node."""
FULL: Final = "it has too many open connections"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_UNASKED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_NO_BODY_STATUS: Final = frozenset({204, 304})

Headers = CIMultiDict[str]


class AnswerBroke(Exception):
    """The answer ended too early, after its beginning was passed on: the client's connection must break as well."""


class Unread(aiohttp.ClientError):
    """The node ended this connection without reading the request that was on its way."""


class Tries:
    """The nodes that a request may be sent to, in order."""

    def __init__(self, nodes: Sequence[FrontNode]) -> None:
        self._left = deque(nodes)
        self._known = list(nodes)

    def __iter__(self) -> Iterator[FrontNode]:
        while self._left:
            yield self._left.popleft()

    def again(self, node: FrontNode) -> None:
        """Ask a node once more, after the others: what failed was the connection, and another one may do."""
        if node in self._known:
            self._known.remove(node)
            self._left.append(node)


def is_unread(status: int, headers: Mapping[str, str] | None) -> bool:
    """Tell whether an answer says that the node ended the connection before it read the request."""
    return status == 503 and headers is not None and UNREAD in headers


def make_session(connections_max: int) -> aiohttp.ClientSession:
    """Make the client that talks to the nodes; it changes nothing on the way and tries nothing twice by itself."""
    session = aiohttp.ClientSession(
        connector=LookingConnector(limit=connections_max, keepalive_timeout=IDLE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        request_class=LookingRequest,
        skip_auto_headers=_UNASKED,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )
    session._retry_connection = False  # its second try does not know whether the body is used up; we do
    return session


def passed_headers(headers: MultiMapping[str]) -> Headers:
    """Give a copy without the headers that belong to one connection, those that `Connection` names included."""
    kept: Headers = CIMultiDict(headers)
    named = headers.getall("Connection", ())
    for name in {*_HOP, *(part.strip().lower() for value in named for part in value.split(","))}:
        kept.popall(name, None)
    return kept


def request_headers(request: web.BaseRequest) -> Headers:
    """Give the headers for the node: those of the client, and who the client is."""
    headers = passed_headers(request.headers)
    headers.popall("Expect", None)  # answered here, by `Upload`
    client = request.remote or "unknown"
    before = ", ".join(headers.popall("X-Forwarded-For", ()))
    headers["X-Forwarded-For"] = f"{before}, {client}" if before else client
    headers.setdefault("X-Forwarded-Proto", "http")
    return headers


def target_of(request: web.BaseRequest, node: FrontNode) -> URL:
    """Give the address at the node: path and query exactly as the client wrote them. Raises InvalidRequest."""
    path = request.raw_path
    if not path.startswith("/"):
        path = request.rel_url.raw_path_qs if request.rel_url.absolute else ""
    if not path.startswith("/") or not path.isascii():
        raise InvalidRequest(f"the front passes on paths, not {request.raw_path[:100]!r}")
    return URL(node.url + path.partition("#")[0], encoded=True)


def error_answer(error: PandoError) -> web.Response:
    """Make the JSON answer of an error, in the form that nodes use."""
    body = {"error": error.message, "message": error.message, "code": error.code, "retryable": error.retryable}
    headers = {"Retry-After": "1"} if error.retryable else None
    return web.Response(
        status=error.status, body=msgspec.json.encode(body), content_type="application/json", headers=headers
    )


class Upload:
    """The body of a request on its way to a node; a stream can be sent once."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._whole: bytes | None = None
        self.is_used = False
        """Whether bytes were taken from the client that no second try would have."""
        self.error: PandoError | None = None
        """What the client did wrong."""

    async def open(self) -> bytes | AsyncIterator[bytes] | None:
        """Give what the HTTP client is to send."""
        request = self._request
        if not request.body_exists:
            return None
        length = request.content_length
        if length is None or length > WHOLE_BYTES_MAX:
            return self._chunks()
        if self._whole is None:
            self._whole = b"".join([chunk async for chunk in self._chunks()])
            self.is_used = False  # it can be sent again from here
        return self._whole

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.is_used = True
        request = self._request
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.drain()
            if request.transport is not None:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            try:
                async with asyncio.timeout(UPLOAD_PAUSE_S):
                    chunk = await request.content.readany()
            except TimeoutError:
                self.error = InvalidRequest(f"nothing came of the body for {UPLOAD_PAUSE_S:g} s")
                raise self.error from None
            except web.RequestPayloadError as error:
                self.error = InvalidRequest("the body does not follow its framing")
                raise self.error from error
            if not chunk:
                return
            yield chunk


class Proxy:
    """Answers requests by asking nodes. `look_again` is called when a node broke a connection."""

    def __init__(
        self, rotation: Rotation, session: aiohttp.ClientSession, look_again: Callable[[], None], stopping: Stopping
    ) -> None:
        self._rotation = rotation
        self._session = session
        self._look_again = look_again
        self._stopping = stopping

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Give the answer of the first node that answers. Raises PandoError, AnswerBroke."""
        upload = Upload(request)
        headers = request_headers(request)
        reasons: list[str] = []
        left = Tries(self._rotation.order())
        for node in left:
            try:
                return await self._ask(request, node, headers, upload)
            except UnicodeEncodeError as error:
                raise InvalidRequest("a header holds bytes that are no text") from error
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                if upload.error is not None:
                    raise upload.error from error
                reasons.append(f"{node.url}: {describe(error)}")
                self._note(node, error, left)
                if not may_try_again(request.method, error, is_used=upload.is_used):
                    raise _unknown(request.method, node, error) from error
        if not reasons:
            raise NotReady(f"no node is ready; try again soon ({self._rotation.why_none()})")
        raise RetryLater(f"no node answered; nothing was done, try again ({'; '.join(reasons)})")

    def _note(self, node: FrontNode, error: Exception, left: Tries) -> None:
        if is_unsent(error):
            self._rotation.is_away(node, describe(error))
        elif is_undone(error):
            left.again(node)
        else:
            self._look_again()

    async def _ask(
        self, request: web.BaseRequest, node: FrontNode, headers: Headers, upload: Upload
    ) -> web.StreamResponse:
        answer = await self._session.request(
            request.method,
            target_of(request, node),
            headers=headers,
            data=await upload.open(),
            allow_redirects=False,
        )
        try:
            if is_unread(answer.status, answer.headers):
                raise Unread(FULL)
            return await pass_back(request, answer, self._stopping)
        finally:
            # An answer that is not at its end, or whose request is not, leaves a connection that nobody can use.
            answer.close()


def is_unsent(error: Exception) -> bool:
    """Tell whether the node cannot have seen anything of the request: there never was a connection."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def is_undone(error: Exception) -> bool:
    """Tell whether the request cannot have had an effect."""
    return is_unsent(error) or isinstance(error, Unread | Ended)


def may_try_again(method: str, error: Exception, *, is_used: bool) -> bool:
    """Tell whether another node may get the request: the first did not act on it, and we still have all of it."""
    return not is_used and (is_undone(error) or method in _SAFE)


def describe(error: Exception) -> str:
    """Give the reason in words for an operator."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"nobody listens there ({error.os_error.strerror or error.os_error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _unknown(method: str, node: FrontNode, error: Exception) -> PandoError:
    if method in _SAFE or is_undone(error):
        return RetryLater(f"the connection to {node.url} broke ({describe(error)}); nothing was done, try again")
    return OutcomeUnknown(
        f"the connection to {node.url} broke after the request was sent ({describe(error)}); it may have taken effect"
    )


def is_endless(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> bool:
    """Tell whether an answer has no end, so that one wherever it is now is as good as any."""
    return answer.content_type == "text/event-stream" or request.path == "/api/changes"


async def pass_back(request: web.BaseRequest, answer: aiohttp.ClientResponse, stopping: Stopping) -> web.StreamResponse:
    """Send a node's answer to the client. Raises AnswerBroke when it breaks off after its beginning."""
    headers = passed_headers(answer.headers)
    headers.setdefault("Server", "pando")
    status, length = answer.status, answer.content_length
    if request.method == "HEAD" or status in _NO_BODY_STATUS:
        return web.Response(status=status, reason=answer.reason, headers=headers)
    if length is not None and length <= WHOLE_BYTES_MAX:
        return web.Response(status=status, reason=answer.reason, headers=headers, body=await answer.read())
    response = web.StreamResponse(status=status, reason=answer.reason, headers=headers)
    if stopping.is_set:
        response.force_close()
    try:
        await response.prepare(request)
        async with stopping.ends() if is_endless(request, answer) else nullcontext():
            while chunk := await answer.content.readany():
                await response.write(chunk)
        await response.write_eof()
    except (
        aiohttp.ClientError,
        TimeoutError,
        ConnectionError,
    ) as error:
        # Whichever side it was, an error answer would come too late.
        raise AnswerBroke(describe(error)) from error
    return response
