"""Short reads over POST /v2/pipeline, answered within the call that brought the request.

A second door to what `pando.api.pipeline` serves, for the commonest request of all: whatever is not plainly a short
read that this node may answer now is declined, and goes through the ordinary door, which also tells every error. Not
here: HTTP itself (`pando.node.http_protocol`), what may be answered at once (`SqlService.answer_at_once`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pando.api.pipeline import Headers, Request, read_headers
from pando.sql.access import Access
from pando.sql.messages import decode_pipeline
from pando.sql.service import Call, SqlService
from pando.types import DEFAULT_DATABASE

PATHS: Final = (b"/v2/pipeline", b"/v3/pipeline")
BODY_BYTES_MAX: Final = 32 * 1024
"""Longer requests are for the ordinary door: reading them takes a while by itself."""
_DECLINED_HEADERS: Final = frozenset({b"origin", b"cookie", b"pando-durability", b"pando-freshness"})


class PromptReads:
    """Answers requests to one of `PATHS`, or declines."""

    def __init__(self, service: SqlService, authenticate: Callable[[Headers], Access]) -> None:
        self._service = service
        self._authenticate = authenticate

    def __call__(self, headers: Headers, body: bytes) -> tuple[bytes, bytes] | None:
        """Give header lines and body of an answer with status 200; None: this is for the ordinary door."""
        if len(body) > BODY_BYTES_MAX:
            return None
        try:
            call = self._call(headers)
            answer = None if call is None else self._service.answer_at_once(decode_pipeline(body), call)
        except Exception:  # noqa: BLE001 - nothing has happened yet: the ordinary door meets the error again, and tells it
            return None
        if answer is None:
            return None
        if answer.bookmark is None:
            return b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer.body), answer.body
        bookmark = str(answer.bookmark).encode()
        lines = b"content-type: application/json\r\npando-bookmark: %b\r\ncontent-length: %d\r\n"
        return lines % (bookmark, len(answer.body)), answer.body

    def _call(self, headers: Headers) -> Call | None:
        for name, _ in headers:
            if name in _DECLINED_HEADERS:
                return None
        request = Request(self._authenticate(headers), "", DEFAULT_DATABASE)
        read_headers(request, headers, None, database_from_host=False)
        if request.has_hopped:
            return None
        request.access.check_database(request.database)
        return Call(request.database, request.access, request.bookmark, caller=request.caller)
