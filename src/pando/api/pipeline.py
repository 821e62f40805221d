"""SQL over HTTP: pipelines, cursors and Hrana 1 as a raw ASGI handler, with the probes GET /v2 and the like.

The hot path of the whole node, so one pass over the headers and no framework. Errors come in three layers: inside a
200 answer (statements), HTTP 400 as plain text (the protocol), JSON with `error`, `message`, `code`, `retryable`
(everything else). Content types are bare, since clients compare them as they stand. Not here: tokens (injected),
running the pipeline (see `pando.sql.service`), other routes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Protocol

import msgspec

from pando import limits
from pando.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    NotReady,
    PandoError,
    RequestTooLarge,
    StreamExpired,
)
from pando.sql.access import Access
from pando.sql.batons import CLOSED, Baton, BatonError
from pando.sql.freshness import SESSION, Freshness, parse_freshness
from pando.sql.http_encodings import JSON, PROTOBUF, HttpEncoding, cursor_chunks
from pando.sql.messages import HranaProtocolError, decode_stateless
from pando.sql.service import BatonElsewhere, Call, SqlService
from pando.types import DEFAULT_DATABASE, Bookmark, Durability, parse_bookmark, parse_database_name

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes | Iterator[bytes], bool]
"""Status, headers, body or its pieces, and whether the rest of the request is still to be taken."""

DRAIN_BYTES_MAX: Final = 4 * limits.BODY_SIZE_BYTES_MAX
"""How much of a body that is too large is still taken, so that its client comes to read the answer."""
DRAIN_S: Final = 5.0

_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain")
_PIPELINE_PATHS: Final = {"/v2/pipeline": JSON, "/v3/pipeline": JSON, "/v3-protobuf/pipeline": PROTOBUF}
_CURSOR_PATHS: Final = {"/v3/cursor": JSON, "/v3-protobuf/cursor": PROTOBUF}
_STATELESS_PATHS: Final = frozenset({"/v1/execute", "/v1/batch"})
_PROBE_PATHS: Final = frozenset({"/v1", "/v2", "/v3", "/v3-protobuf"})
_POST_PATHS: Final = frozenset({*_PIPELINE_PATHS, *_CURSOR_PATHS, *_STATELESS_PATHS})
_DEV_PATHS: Final = frozenset({*_PIPELINE_PATHS, *_CURSOR_PATHS})
BATON_HOP: Final = b"pando-baton-hop"
"""Header of a request that another process sent on: it is not sent on again."""


class Forwarder(Protocol):
    """Sends a request to the process that holds a stream."""

    async def forward(self, baton: Baton, path: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """Give status, headers and body of the answer; raises PandoError if the process cannot be reached."""
        ...


@dataclass(slots=True)
class Request:
    """What the headers say."""

    access: Access
    path: str
    database: str = DEFAULT_DATABASE
    bookmark: Bookmark | None = None
    freshness: Freshness = SESSION
    durability: str = ""
    caller: bytes = b""
    length: int | None = None
    has_cookie: bool = False
    expects_continue: bool = False
    has_hopped: bool = False
    binary_namespace: bytes = b""


class PipelineHandler:
    """ASGI application for the SQL routes."""

    def __init__(
        self,
        service: SqlService,
        authenticate: Callable[[Headers], Access],
        *,
        forwarder: Forwarder | None = None,
        database_from_host: bool = False,
        default_freshness: Freshness = SESSION,
        body_bytes_max: int = limits.BODY_SIZE_BYTES_MAX,
    ) -> None:
        self.service = service
        self._authenticate = authenticate
        self._forwarder = forwarder
        self._database_from_host = database_from_host
        self._default_freshness = default_freshness
        self.body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A bug of ours is answered too, and then raised for the server to log."""
        try:
            status, headers, body, is_unread = await self._answer(scope, receive)
        except PandoError as error:
            await _send(send, *error_response(error))
        except Exception as error:
            await _send(send, *error_response(InternalError(f"internal error: {type(error).__name__}")))
            raise
        else:
            if not isinstance(body, bytes):
                await _send_pieces(send, status, headers, body)
                return
            await _send(send, status, headers, body, is_unread=is_unread)
            if is_unread:
                await drain(receive)
                await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path in _POST_PATHS:
            namespace = None
        elif path in _PROBE_PATHS:
            return 200, [_TEXT], b"Hello, this is HTTP API " + path[1:].encode(), False
        else:
            namespace, path = split_dev_path(path)
        if method != "POST":
            return 405, [_JSON, (b"allow", b"POST")], _error_body("use POST", "METHOD_NOT_ALLOWED"), False
        headers: Headers = scope["headers"]
        request = self.read_headers(headers, path, namespace)
        body = await self._read_body(request, receive)
        if body is None:
            error = RequestTooLarge(f"the body is larger than {self.body_bytes_max} bytes; send less in one request")
            status, answer_headers, text = error_response(error)
            answer_headers.append((b"connection", b"close"))
            return status, answer_headers, text, not request.expects_continue
        call = Call(
            request.database,
            request.access,
            request.bookmark,
            request.freshness,
            request.durability,
            request.caller,
            partial(_gone, receive),
        )
        return await self._run(request, call, headers, body)

    async def _run(self, request: Request, call: Call, headers: Headers, body: bytes) -> Reply:
        if request.path in _STATELESS_PATHS:
            return await self._run_stateless(request, call, body)
        try:
            encoding = _PIPELINE_PATHS.get(request.path)
            if encoding is None:
                return await self._run_cursor(_CURSOR_PATHS[request.path], request, call, body)
            answer = await self.service.answer(encoding.decode_pipeline(body), call, encoding.encode_answer)
        except BatonElsewhere as elsewhere:
            if self._forwarder is None or request.has_hopped:
                raise BatonError(CLOSED) from elsewhere
            kept = [pair for pair in headers if pair[0] != b"x-namespace"]
            kept.append((b"x-namespace", request.database.encode()))  # whatever named it: the path is cut, Host may go
            return *await self._forwarder.forward(elsewhere.baton, request.path, kept, body), False
        return 200, answer_headers(answer.bookmark, request, encoding.content_type), answer.body, False

    async def _run_cursor(self, encoding: HttpEncoding, request: Request, call: Call, body: bytes) -> Reply:
        asked = encoding.decode_cursor(body)
        answer = await self.service.answer_cursor(asked, call)
        pieces = cursor_chunks(answer, encoding, knows_index=asked.batch.replication_index is not None)
        return 200, answer_headers(answer.bookmark, request, encoding.cursor_content_type), pieces, False

    async def _run_stateless(self, request: Request, call: Call, body: bytes) -> Reply:
        """Answer Hrana 1 over HTTP, where a failing statement is an HTTP error."""
        pipeline = decode_stateless(body, is_batch=request.path == "/v1/batch")
        answer, failure = await self.service.answer_stateless(pipeline, call)
        status = 200 if failure is None else stateless_status(failure.code)
        return status, answer_headers(answer.bookmark, request, JSON.content_type), answer.body, False

    # -- headers and body -----------------------------------------------------------------------------------------

    def read_headers(self, headers: Headers, path: str, namespace: str | None) -> Request:
        """Check the token, then look for everything else in one pass. Raises PandoError."""
        request = Request(self._authenticate(headers), path, freshness=self._default_freshness)
        read_headers(request, headers, namespace, database_from_host=self._database_from_host)
        request.access.check_database(request.database)
        return request

    async def _read_body(self, request: Request, receive: Receive) -> bytes | None:
        """Give the body, None if it is longer than allowed; at most so much is ever held."""
        if request.length is not None and request.length > self.body_bytes_max:
            return None
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self.body_bytes_max:
                    return None
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the client went away before its request was complete")
        return body if len(body) <= self.body_bytes_max else None


async def _send(send: Send, status: int, headers: Headers, body: bytes, *, is_unread: bool = False) -> None:
    """Send a whole answer; `is_unread` keeps the exchange open, so that the rest of the request can be taken."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": is_unread})


async def _send_pieces(send: Send, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
    """Send an answer piece by piece, as its client takes them; others have a turn between two pieces.

    The end goes out with the last piece: clients that look at a failure only then would have it unhandled meanwhile.
    """
    piece, following = next(pieces), next(pieces, None)
    if following is None:
        await _send(send, status, headers, piece)
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    while following is not None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
        piece, following = following, next(pieces, None)
    await send({"type": "http.response.body", "body": piece})


async def _gone(receive: Receive) -> None:
    """Return when the client has closed the connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def drain(receive: Receive) -> None:
    """Take and drop what is left of a body, within bounds: a connection closed at once would lose the answer too."""

    async def take() -> None:
        left = DRAIN_BYTES_MAX
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return

    try:
        await asyncio.wait_for(take(), DRAIN_S)
    except TimeoutError:
        return


def answer_headers(bookmark: Bookmark | None, request: Request, content_type: bytes) -> Headers:
    """Give the headers of an answer that saw or made a commit (None: neither)."""
    kind = (b"content-type", content_type)
    if bookmark is None:
        return [kind]
    text = str(bookmark).encode()
    if request.has_cookie:
        return [kind, (b"pando-bookmark", text), (b"set-cookie", b"pando_bookmark=" + text + b"; Path=/; HttpOnly")]
    return [kind, (b"pando-bookmark", text)]


# -- headers ------------------------------------------------------------------------------------------------------


def read_headers(request: Request, headers: Headers, namespace: str | None, *, database_from_host: bool) -> None:
    """Take everything but the token from the headers. `namespace`: what the path says. Raises PandoError."""
    host, is_in_path = b"", namespace is not None
    for name, value in headers:
        reader = _HEADERS.get(name)
        if reader is not None:
            reader(request, value)
        elif name == b"x-namespace":
            namespace = value.decode("latin-1") if namespace is None else namespace
        elif name == b"host":
            host = value
    if request.binary_namespace and not is_in_path:
        namespace = read_binary_name(request.binary_namespace)
    if namespace is not None and not is_in_path and is_part_of_address(namespace, host.decode("latin-1")):
        namespace = None
    if namespace is None and database_from_host:
        namespace = host_label(host.decode("latin-1"))
    if namespace is not None:
        request.database = parse_database_name(namespace)


def _bookmark(request: Request, value: bytes) -> None:
    request.bookmark = parse_bookmark(value.decode("latin-1"))


def _freshness(request: Request, value: bytes) -> None:
    request.freshness = parse_freshness(value.decode("latin-1"))


def _durability(request: Request, value: bytes) -> None:
    text = value.decode("latin-1")
    try:
        request.durability = str(Durability(text))
    except ValueError:
        known = ", ".join(Durability)
        raise InvalidRequest(f"Pando-Durability is {text[:80]!r}; it must be one of: {known}") from None


def _length(request: Request, value: bytes) -> None:
    try:
        request.length = int(value)
    except ValueError:
        raise InvalidRequest("Content-Length is no number") from None


def _cookie(request: Request, value: bytes) -> None:
    """A bookmark from a cookie may be stale or foreign: what cannot be read is no reason to refuse."""
    request.has_cookie = True
    if b"pando_bookmark" not in value or request.bookmark is not None:
        return
    try:
        morsel = SimpleCookie(value.decode("latin-1")).get("pando_bookmark")
        if morsel is not None:
            request.bookmark = parse_bookmark(morsel.value)
    except (CookieError, PandoError):
        return


def _caller(request: Request, value: bytes) -> None:
    request.caller = value


def _other_caller(request: Request, value: bytes) -> None:
    request.caller = request.caller or value


def _binary_namespace(request: Request, value: bytes) -> None:
    request.binary_namespace = value


def _expect(request: Request, value: bytes) -> None:
    request.expects_continue = value.lower() == b"100-continue"


def _hopped(request: Request, value: bytes) -> None:
    request.has_hopped = True


_HEADERS: dict[bytes, Callable[[Request, bytes], None]] = {
    b"pando-bookmark": _bookmark,
    b"pando-freshness": _freshness,
    b"pando-durability": _durability,
    b"content-length": _length,
    b"cookie": _cookie,
    b"authorization": _caller,
    b"x-authorization": _other_caller,
    b"expect": _expect,
    b"x-namespace-bin": _binary_namespace,
    BATON_HOP: _hopped,
}


def split_dev_path(path: str) -> tuple[str, str]:
    """Cut `/dev/<namespace>/v2/pipeline` into (namespace, path); raises NotFound."""
    _, _, namespace, rest = path.split("/", 3) if path.count("/") >= 3 else ("", "", "", "")
    if not namespace or f"/{rest}" not in _DEV_PATHS:
        raise NotFound(f"there is nothing at {path[:200]}")
    return namespace, f"/{rest}"


def read_binary_name(value: bytes) -> str:
    """Read the header `x-namespace-bin`, as gRPC writes names; raises InvalidRequest."""
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True).decode()
    except ValueError as error:
        raise InvalidRequest("x-namespace-bin is no base64 of a name") from error


def is_part_of_address(namespace: str, host: str) -> bool:
    """Tell whether a name is what some libSQL clients make of a server's IP address: its first part, for them a name.

    Nobody means a database by it.
    """
    if not namespace.isdigit() or not host.startswith(f"{namespace}."):
        return False
    try:
        ipaddress.ip_address(host.rsplit(":", 1)[0])
    except ValueError:
        return False
    return True


def host_label(host: str) -> str | None:
    """Give the first label of a host name as the database's name; None for addresses, `localhost` and bare names."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    label, dot, rest = name.strip("[]").partition(".")
    if not dot or not rest or name.lower().endswith("localhost"):
        return None
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return label
    return None


# -- errors -------------------------------------------------------------------------------------------------------


def stateless_status(code: str) -> int:
    """Give the HTTP status of a failing statement in Hrana 1, as sqld has it."""
    if code == "ARGS_BOTH_POSITIONAL_AND_NAMED":
        return 501
    if code in {"TRANSACTION_TIMEOUT", "TRANSACTION_BUSY"}:
        return 503
    return 400 if code.startswith(("SQL_", "ARGS_", "RESPONSE_", "BLOCKED")) else 500


def _error_body(message: str, code: str, *, retryable: bool = False) -> bytes:
    """JSON for sqld's clients (`error`), Hrana's (`message`, `code`) and ours (`retryable`)."""
    return msgspec.json.encode({"error": message, "message": message, "code": code, "retryable": retryable})


def error_response(error: PandoError) -> tuple[int, Headers, bytes]:
    """Give status, headers and body for what a pipeline raised."""
    if isinstance(error, HranaProtocolError):
        return 400, [_TEXT], error.message.encode("utf-8", "replace")
    if isinstance(error, StreamExpired):
        return 400, [_JSON], msgspec.json.encode({"message": error.message, "code": error.code})
    headers: Headers = [_JSON]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, NotReady):
        headers.append((b"retry-after", b"1"))
    return error.status, headers, _error_body(error.message, error.code, retryable=error.retryable)
