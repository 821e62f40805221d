"""`app.asgi`: the API as an ASGI application, served alone or mounted under a path of another one.

Served alone it starts and stops with the server (`lifespan`). Frameworks do not pass that on to what they mount: then
the first request starts the node, or `lifespan=app.lifespan` does. Not here: what answers (`pando.api.app`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pando.api.http import Receive, Scope, Send, error_response, send_response
from pando.errors import PandoError

if TYPE_CHECKING:
    from pando.embedded.application import Pando


class Mounted:
    """An ASGI application."""

    def __init__(self, app: Pando) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, hold one WebSocket, or live as long as the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            running = await self._app.running()
        except PandoError as error:
            if scope["type"] != "http":
                raise
            await send_response(error_response(error), send)
            return
        await running.site.app(inner(scope), receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._app.__aenter__()
                except PandoError as error:
                    await send({"type": "lifespan.startup.failed", "message": f"{error.code}: {error.message}"})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._app.__aexit__()
                await send({"type": "lifespan.shutdown.complete"})
                return


def inner(scope: Scope) -> dict[str, Any]:
    """Give a scope as if the application were served alone: without the path that it is mounted under."""
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path, safe="/:@!$&'()*+,;=~-._").encode()
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :] or "/"
        quoted = quote(root, safe="/:@!$&'()*+,;=~-._").encode()
        for prefix in (quoted, root.encode()):
            if raw.startswith(prefix):
                raw = raw[len(prefix) :] or b"/"
                break
        else:
            raw = quote(path, safe="/:@!$&'()*+,;=~-._").encode()
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    query = scope.get("query_string", b"")
    return {**scope, "path": path, "raw_path": raw, "root_path": "", "headers": headers, "query_string": query}
