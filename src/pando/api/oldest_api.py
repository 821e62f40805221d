"""POST /, sqld's oldest API over HTTP, and the 404 of GET / for those who do not want a WebSocket there.

Headers say what those of a pipeline say. Not here: the lists of statements (`pando.sql.oldest_api`).
"""

from __future__ import annotations

from collections.abc import Mapping

from pando.api.http import JSON, Handler, Request, Response, error_body
from pando.api.pipeline import PipelineHandler, answer_headers, stateless_status
from pando.api.pipeline import Request as SqlHeaders
from pando.errors import NotFound
from pando.sql.calls import Call
from pando.sql.oldest_api import (
    PLAIN_TEXT,
    QueryRefused,
    Unreadable,
    batch_of,
    decode_statements,
    encode_error,
    encode_results,
)
from pando.store.requests import Failure


class OldestApi:
    """The route `/` of one process, beside its routes for pipelines."""

    def __init__(self, pipelines: PipelineHandler) -> None:
        self._pipelines = pipelines

    def routes(self) -> Mapping[str, Handler]:
        """Give the handler by the first name of its path."""
        return {"": self}

    async def __call__(self, request: Request) -> Response:
        """Answer a request for `/`. Raises PandoError."""
        path, method = request.scope["path"], request.scope["method"]
        if path != "/":
            raise NotFound(f"there is nothing at {path[:200]}")
        if method in {"GET", "HEAD"}:
            return Response(404, [])
        if method != "POST":
            body = error_body("/ takes POST, and GET with an upgrade to WebSocket", "METHOD_NOT_ALLOWED")
            return Response(405, [JSON, (b"allow", b"GET, POST")], body)
        asked = self._pipelines.read_headers(request.headers, path, None)
        return await self._answer(asked, await request.body(self._pipelines.body_bytes_max))

    async def _answer(self, asked: SqlHeaders, body: bytes) -> Response:
        try:
            statements = decode_statements(body)
        except Unreadable as error:
            return Response(error.status, [(b"content-type", PLAIN_TEXT.encode())], error.message.encode())
        except QueryRefused as error:
            return Response(error.status, [JSON], encode_error(error.message))
        call = Call(asked.database, asked.access, asked.bookmark, asked.freshness, asked.durability, asked.caller)
        answer = await self._pipelines.service.answer_batch(statements.batch, call)
        headers = answer_headers(answer.bookmark, asked, b"application/json")
        if isinstance(answer.result, Failure):
            return Response(stateless_status(answer.result.code), headers, encode_error(answer.result.message))
        return Response(200, headers, encode_results(statements, batch_of(answer.result)))
