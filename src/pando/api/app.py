"""The ASGI application of a web process: one dictionary from path to handler.

SQL routes go to the pipeline handler without any further step, WebSockets to theirs. Browsers of any origin may call
(tokens travel in a header, never by themselves), as with sqld. Not here: what the routes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pando.api.http import (
    JSON,
    ClientGone,
    Handler,
    Headers,
    Message,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    error_body,
    error_response,
    send_response,
)
from pando.api.version import version
from pando.api.websocket import refuse
from pando.errors import InternalError, NotReady, PandoError
from pando.log import EventLog

AsgiHandler = Callable[[Any, Any, Any], Awaitable[None]]
Routes = Mapping[str, Mapping[str, Handler]]

SQL_PREFIXES: Final = ("/v1", "/v2", "/v3", "/dev/")
"""What the pipeline handler is asked about."""
ADMIN_PREFIXES: Final = ("/v1/namespaces", "/v1/diagnostics", "/v1/jobs")
"""What is not, though it begins so: sqld has these on a port of their own."""
_NAMED_COPY: Final = re.compile(r"/dev/[^/]+/(?:info$|export/|sync/)")
"""What is not, either: clients that keep a local file of a database that is named in their URL."""
RECORDS_PREFIX: Final = "/api/"
BEGIN_WAIT_S: Final = 10.0
"""How long a request for records waits for a node that has just started."""
SQL_BEGIN_WAIT_S: Final = 3.0
"""How long SQL waits for a process that has just started, before it is told so."""
PREFLIGHT_S: Final = 86400
"""How long a browser may remember that it may call."""
EXPOSED_HEADERS: Final = b"pando-bookmark, retry-after"
"""Headers of answers that a page of another origin may read."""
_HEADERS_ASKED_MAX: Final = 4096
_ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_UNHANDLED: Final = "an error that nobody expected"


OWN_ROUTES: Final[Routes] = {"/version": {"GET": version}}
"""What every node answers, whatever state it is in."""


class App:
    """Dispatches requests. `sql` and `websocket` are None until the store has said who the node is."""

    def __init__(
        self, routes: Routes, log: EventLog, not_ready: Callable[[], str], *, begin_wait_s: float = BEGIN_WAIT_S
    ) -> None:
        """`not_ready`: says why SQL cannot be served yet."""
        self._routes = {**OWN_ROUTES, **routes}
        self._log = log
        self._not_ready = not_ready
        self._begin_wait_s = begin_wait_s
        self.by_first: Mapping[str, Handler] | None = None
        """Handlers by the first name in a path ("dump" has all of /dump/...; of admin routes it is two names).

        None until the store has said who the node is.
        """
        self.sql: AsgiHandler | None = None
        self.websocket: AsgiHandler | None = None
        self._records: AsgiHandler | None = None
        self._begun = asyncio.Event()

    @property
    def records(self) -> AsgiHandler | None:
        """What answers requests for records; None until the store has said who the node is."""
        return self._records

    @records.setter
    def records(self, handler: AsgiHandler) -> None:
        self._records = handler
        self._begun.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hold one WebSocket."""
        if scope["type"] == "websocket":
            await self._hold(scope, receive, send)
            return
        path: str = scope["path"]
        if any(name == b"origin" for name, _ in scope["headers"]):
            send = _for_any_origin(send)
            status = 204 if path.startswith(RECORDS_PREFIX) else 200  # as PocketBase and sqld answer
            preflight = preflight_response(scope["headers"], status) if scope["method"] == "OPTIONS" else None
            if preflight is not None:
                await send_response(preflight, send)
                return
        if path.startswith(SQL_PREFIXES) and not path.startswith(ADMIN_PREFIXES):
            if path[1] == "d" and _NAMED_COPY.match(path):
                await self._answer(scope, receive, send)
            elif self.sql is not None:
                await self.sql(scope, receive, send)
            else:
                await self._answer_early(scope, receive, send)
            return
        if path.startswith(RECORDS_PREFIX):
            await self._answer_records(scope, receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answer_records(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; who comes too early waits a while, since PocketBase can answer as soon as it listens."""
        if self._records is None:
            await self._until_begun(self._begin_wait_s)
        if self._records is not None:
            await self._records(scope, receive, send)
        else:
            await send_response(error_response(self._why_not()), send)

    async def _answer_early(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer SQL that comes before this process can; another one of the node may have said already that it can."""
        await self._until_begun(min(SQL_BEGIN_WAIT_S, self._begin_wait_s))
        if self.sql is not None:
            await self.sql(scope, receive, send)
        else:
            await send_response(error_response(self._why_not()), send)

    async def _until_begun(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), limit_s)

    def _why_not(self) -> NotReady:
        return NotReady(f"the node cannot serve yet: {self._not_ready() or 'starting'}")

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.websocket is None:
            await self._until_begun(min(SQL_BEGIN_WAIT_S, self._begin_wait_s))
        if self.websocket is not None:
            await self.websocket(scope, receive, send)
            return
        await receive()
        answer = error_response(self._why_not())
        await refuse(send, (answer.status, answer.headers, answer.body))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def tracking_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        method: str = scope["method"]
        try:
            response = await self._respond(method, Request(scope, receive))
            await send_response(response, tracking_send, is_head=method == "HEAD")
        except ClientGone:
            return
        except PandoError as error:
            if has_started:
                raise  # the answer is cut off, which its length tells the client
            await send_response(error_response(error), send, is_head=method == "HEAD")
        except BaseException as error:
            self._log.emit("request.failed", method=method, path=scope["path"], error=repr(error))
            if not has_started and isinstance(error, Exception):
                shown = InternalError(f"{_UNHANDLED}: {type(error).__name__}")
                await send_response(error_response(shown), send, is_head=method == "HEAD")
                return
            raise

    async def _respond(self, method: str, request: Request) -> Response:
        path: str = request.scope["path"]
        methods = self._routes.get(path)
        if methods is None and self.by_first is None:
            raise self._why_not()
        if methods is None and self.by_first and (by_first := self.by_first.get(first_of(path))) is not None:
            return await by_first(request)
        if methods is None:
            return Response(404, [JSON], error_body(f"there is nothing at {path[:200]}", "NOT_FOUND"))
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(methods).encode()
            body = error_body(f"{path} takes {', '.join(methods)}", "METHOD_NOT_ALLOWED")
            return Response(405, [JSON, (b"allow", allowed)], body)
        return await handler(request)


def first_of(path: str) -> str:
    """Give the first name of a path, of an admin route the first two; "" for the root."""
    parts = path.split("/", 3)
    if path.startswith(ADMIN_PREFIXES):
        return "/".join(parts[1:3])
    return parts[1] if len(parts) > 1 else ""


# -- browsers of other origins -----------------------------------------------------------------------------------------


def preflight_response(headers: Headers, status: int = 200) -> Response | None:
    """Answer a browser that asks whether it may call; None if it asks for something else.

    The headers asked for are named back, since `*` does not cover `Authorization` (Fetch standard, CORS-safelisting).
    """
    asked = dict(headers)
    method = asked.get(b"access-control-request-method")
    names = asked.get(b"access-control-request-headers", b"*")
    if method is None or len(names) > _HEADERS_ASKED_MAX:
        return None
    allowed = [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", b"%d" % PREFLIGHT_S),
        (b"vary", b"access-control-request-headers"),
    ]
    return Response(status, allowed)


def _for_any_origin(send: Send) -> Send:
    """Add to the answer that every page may read it."""

    async def allowing_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], _ANY_ORIGIN, (b"access-control-expose-headers", EXPOSED_HEADERS)]
            message = {**message, "headers": headers}
        await send(message)

    return allowing_send
