"""Records over the shortest way: requests under `/api/collections/` that came in whole.

Reads are run within the call that brought them; if they have to wait after all, they go on as a task. Everything else
becomes a task at once, without ASGI's scope and events. What needs more than that (forms, other origins, long bodies)
is declined and goes through `RecordsApp` as an ASGI application.

Answers to reads are kept, within bounds, under all that a request says: URL and every header. As long as the database
shows the commit that they were made at, and neither clock nor chance had a say, they are given again as they are. Not
here: HTTP itself (`pando.node.http_protocol`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pando.api.http import Headers, Message, Request, Response
from pando.api.records_app import Reuse
from pando.eager import begun
from pando.node.http_protocol import Peer, WholeAnswer

PREFIX: Final = b"/api/collections/"
BODY_BYTES_MAX: Final = 32 * 1024
"""Longer requests are for the ordinary door: reading them takes a while by itself."""
LINES_REMEMBERED_MAX: Final = 64
_DECLINED: Final = frozenset({b"origin", b"transfer-encoding"})
_METHODS: Final = {b"GET": "GET", b"POST": "POST", b"PATCH": "PATCH", b"DELETE": "DELETE"}
_JSON: Final = b"application/json"

KEPT_BYTES_MAX: Final = 16 << 20
"""Of answers that are kept, with what they are kept under."""
KEPT_ONE_BYTES_MAX: Final = 256 << 10
_Key = tuple[bytes, tuple[tuple[bytes, bytes], ...]]


class Answering(Protocol):
    """What answers; see `pando.api.records_app.RecordsApp`."""

    def respond_for(self, request: Request) -> Coroutine[Any, Any, tuple[Response, Reuse | None]]:
        """Answer, and say how long the answer stays right."""
        ...

    def is_right_still(self, reuse: Reuse) -> bool:
        """Tell whether an answer of before can be given again."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: WholeAnswer
    reuse: Reuse
    size_bytes: int


class PromptRecords:
    """Answers requests under `PREFIX`, or declines."""

    def __init__(self, app: Answering, *, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._app = app
        self._lines: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._kept_bytes_max = kept_bytes_max

    def __call__(
        self, method: bytes, url: bytes, headers: Headers, body: bytes, peer: Peer | None = None
    ) -> WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None:
        """Give status, header lines and body, or what waits for them; None: this is for the ordinary door."""
        name = _METHODS.get(method)
        if name is None or len(body) > BODY_BYTES_MAX or _is_special(headers):
            return None
        if name != "GET":
            return self._answer(_request(name, url, headers, body, peer), None)
        key = (url, tuple(headers))
        kept = self._kept.get(key)
        if kept is not None:
            if self._app.is_right_still(kept.reuse):
                self._kept.move_to_end(key)
                return kept.answer
            self._drop(key)
        return begun(self._answer(_request(name, url, headers, body, peer), key))

    async def _answer(self, request: Request, key: _Key | None) -> WholeAnswer:
        response, reuse = await self._app.respond_for(request)
        body = response.body
        if response.status == 204:
            return 204, self._lines_of(response.headers), b""
        lines = self._lines_of(response.headers) + b"content-length: %d\r\n" % len(body)
        answer = response.status, lines, body
        if key is not None and reuse is not None and response.status == 200:
            self._keep(key, answer, reuse)
        return answer

    # -- answers that are kept --

    def _keep(self, key: _Key, answer: WholeAnswer, reuse: Reuse) -> None:
        size = len(answer[2]) + len(key[0]) + sum(len(name) + len(value) for name, value in key[1]) + 500
        if size > KEPT_ONE_BYTES_MAX:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = _Kept(answer, reuse, size)
        self._kept_bytes += size
        while self._kept_bytes > self._kept_bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        self._kept_bytes -= self._kept.pop(key).size_bytes

    def _lines_of(self, headers: Headers) -> bytes:
        key = tuple(headers)
        found = self._lines.get(key)
        if found is None:
            found = b"".join([b"%b: %b\r\n" % pair for pair in headers])
            if len(self._lines) >= LINES_REMEMBERED_MAX:
                self._lines.clear()
            self._lines[key] = found
        return found


def _request(method: str, url: bytes, headers: Headers, body: bytes, peer: Peer | None) -> Request:
    path, _, query = url.partition(b"?")
    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": peer,
    }
    return Request(scope, _Body(body))


def _is_special(headers: Headers) -> bool:
    return any(
        name in _DECLINED or (name == b"content-type" and not value.startswith(_JSON)) for name, value in headers
    )


class _Body:
    """Gives a body that is there already; see ASGI's `receive`."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self) -> Message:
        """Give all of it."""
        return {"type": "http.request", "body": self._body, "more_body": False}
