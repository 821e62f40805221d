"""The ASGI application of a web process: one dictionary from path to handler.

SQL routes go to the pipeline handler without any further step. Not here: what the routes do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pando.api.http import (
    JSON,
    ClientGone,
    Handler,
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
from pando.errors import InternalError, NotReady, PandoError
from pando.log import EventLog

AsgiHandler = Callable[[Any, Any, Any], Awaitable[None]]
Routes = Mapping[str, Mapping[str, Handler]]

SQL_PREFIXES: Final = ("/v2", "/v3", "/dev/")
"""What the pipeline handler is asked about."""
_UNHANDLED: Final = "an error that nobody expected"


class App:
    """Dispatches requests. `sql` is None until the store has said who the node is."""

    def __init__(self, routes: Routes, log: EventLog, not_ready: Callable[[], str]) -> None:
        """`not_ready`: says why SQL cannot be served yet."""
        self._routes = routes
        self._log = log
        self._not_ready = not_ready
        self.sql: AsgiHandler | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        if path.startswith(SQL_PREFIXES):
            if self.sql is not None:
                await self.sql(scope, receive, send)
            else:
                await send_response(error_response(NotReady(f"the node cannot serve yet: {self._not_ready()}")), send)
            return
        await self._answer(scope, receive, send)

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
        if methods is None:
            return Response(404, [JSON], error_body(f"there is nothing at {path[:200]}", "NOT_FOUND"))
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(methods).encode()
            body = error_body(f"{path} takes {', '.join(methods)}", "METHOD_NOT_ALLOWED")
            return Response(405, [JSON, (b"allow", allowed)], body)
        return await handler(request)
