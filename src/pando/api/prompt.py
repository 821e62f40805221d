"""The plainest pipelines over POST /v2/pipeline, answered with the least ado.

A second door to what `pando.api.pipeline` serves, for the commonest requests of all. Short reads are answered within
the call that brought the request; writes that leave nothing open wait for the primary, without the scope and events
of ASGI. Whatever is not plainly one of these is declined, and goes through the ordinary door, which also tells most
errors. Not here: HTTP itself (`pando.node.http_protocol`), what is plain (`SqlService.answer_at_once`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from pando import limits
from pando.api.pipeline import Headers, Request, error_response, read_headers
from pando.errors import PandoError
from pando.node.http_protocol import WholeAnswer
from pando.sql.access import Access
from pando.sql.messages import decode_pipeline
from pando.sql.service import Answer, Call, SqlService
from pando.types import DEFAULT_DATABASE, Bookmark

PATHS: Final = (b"/v2/pipeline", b"/v3/pipeline")
BODY_BYTES_MAX: Final = 32 * 1024
"""Longer requests are for the ordinary door: reading them takes a while by itself."""
HEADERS_REMEMBERED_MAX: Final = 1000
HEADERS_REMEMBERED_BYTES_MAX: Final = 2048
_DECLINED_HEADERS: Final = frozenset({b"origin", b"cookie", b"pando-freshness"})


class PromptPipelines:
    """Answers requests to one of `PATHS`, or declines."""

    def __init__(
        self,
        service: SqlService,
        authenticate: Callable[[Headers], Access],
        *,
        body_bytes_max: int = limits.BODY_SIZE_BYTES_MAX,
    ) -> None:
        """`body_bytes_max`: what the ordinary door allows."""
        self._service = service
        self._authenticate = authenticate
        self._body_bytes_max = min(body_bytes_max, BODY_BYTES_MAX)
        self._calls: dict[tuple[tuple[bytes, bytes], ...], Call] = {}
        """What headers mean, by all of them: clients send the same ones again and again."""
        self._bookmark: Bookmark | None = None
        self._lines = _lines(None)

    def __call__(self, headers: Headers, body: bytes) -> WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None:
        """Give status, header lines and body, or what waits for them; None: this is for the ordinary door."""
        if len(body) > self._body_bytes_max:
            return None
        try:
            call = self._call(headers)
            answer = None if call is None else self._service.answer_at_once(decode_pipeline(body), call)
        except PandoError:
            return None  # nothing has happened yet: the ordinary door meets the error again, and tells it
        if type(answer) is Answer:
            return self._whole(answer)
        return None if answer is None else self._later(answer)  # type: ignore[arg-type]

    async def _later(self, answer: Coroutine[Any, Any, Answer]) -> WholeAnswer:
        try:
            return self._whole(await answer)
        except PandoError as error:
            status, headers, body = error_response(error)
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return status, lines + b"content-length: %d\r\n" % len(body), body

    def _whole(self, answer: Answer) -> WholeAnswer:
        if answer.bookmark is not self._bookmark:
            self._bookmark, self._lines = answer.bookmark, _lines(answer.bookmark)
        return 200, self._lines + b"content-length: %d\r\n" % len(answer.body), answer.body

    def _call(self, headers: Headers) -> Call | None:
        access = self._authenticate(headers)  # each time: tokens expire
        key = tuple(headers)
        call = self._calls.get(key)
        if call is not None and call.access is access:
            return call
        for name, _ in headers:
            if name in _DECLINED_HEADERS:
                return None
        request = Request(access, "", DEFAULT_DATABASE)
        read_headers(request, headers, None, database_from_host=False)
        if request.has_hopped:
            return None
        access.check_database(request.database)
        call = Call(request.database, access, request.bookmark, durability=request.durability, caller=request.caller)
        if call.bookmark is None:
            self._remember(key, call)
        return call

    def _remember(self, key: tuple[tuple[bytes, bytes], ...], call: Call) -> None:
        if sum(len(name) + len(value) for name, value in key) <= HEADERS_REMEMBERED_BYTES_MAX:
            if len(self._calls) >= HEADERS_REMEMBERED_MAX:
                del self._calls[next(iter(self._calls))]
            self._calls[key] = call


def _lines(bookmark: Bookmark | None) -> bytes:
    if bookmark is None:
        return b"content-type: application/json\r\n"
    return b"content-type: application/json\r\npando-bookmark: %b\r\n" % str(bookmark).encode()
