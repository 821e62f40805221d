"""Passes requests that write to the primary, and waits until this node shows what they wrote.

PocketBase's clients carry no bookmarks: whoever creates a record through a replica and reads it there a moment later
must find it. Not here: which requests are passed on (`pando.api.records_app`).
"""

from __future__ import annotations

from typing import Final

from pando.api.http import Response
from pando.api.records_http import ApiRequest
from pando.errors import PandoError, PrimaryUnavailable
from pando.node.http_client import exchange
from pando.node.store_client import NodeStoreClient
from pando.records.problems import ApiError
from pando.sql.service import SqlService
from pando.types import parse_bookmark

FORWARD_S: Final = 120.0
"""Longest answer of the primary."""
STREAM_S: Final = 300.0
"""The same with a long body before it: as long as PocketBase reads a request."""
SHORT_BYTES_MAX: Final = 1 << 20
"""Longer bodies, and those of unknown length, are passed on as they come."""
HOP: Final = b"pando-records-hop"
"""Header of a request that a node sent on: it is not sent on again."""
BOOKMARK: Final = b"pando-bookmark"
_DROPPED: Final = frozenset({b"content-length", b"date", b"connection", b"transfer-encoding"})


class PrimaryForwarder:
    """Implements `pando.api.records_app.Forward`."""

    def __init__(self, store: NodeStoreClient, service: SqlService) -> None:
        self._store = store
        self._service = service

    async def __call__(self, asked: ApiRequest) -> Response:
        """Pass a request on. Raises PrimaryUnavailable, OutcomeUnknown, RequestTooLarge."""
        scope = asked.request.scope
        headers = asked.request.headers
        url = self._store.topology.primary_url
        if not url or any(name == HOP for name, _ in headers):
            raise PrimaryUnavailable("writes are not possible now: the primary is not known here; nothing was done")
        is_short = _is_short(asked)
        body = await asked.request.body(SHORT_BYTES_MAX) if is_short else asked.request.chunks()
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        kept = [pair for pair in headers if pair[0] != b"host"]  # the length is counted anew if it can be
        status, answer, text = await exchange(
            url, asked.method, path, [*kept, (HOP, b"1")], body, timeout_s=FORWARD_S if is_short else STREAM_S
        )
        await self._until_shown(answer)
        return Response(status, [pair for pair in answer if pair[0] not in _DROPPED], text)

    async def _until_shown(self, answer: list[tuple[bytes, bytes]]) -> None:
        found = next((value for name, value in answer if name == BOOKMARK), None)
        if found is None:
            return
        try:
            bookmark = parse_bookmark(found.decode("latin-1"))
        except PandoError as error:
            raise ApiError(502, "The primary's answer cannot be read.") from error
        await self._service.until_shown(bookmark)


def _is_short(asked: ApiRequest) -> bool:
    """Tell whether a body can be held: it says that it is short, or there is none."""
    length = asked.headers.get("content_length", "")
    if not length:
        return "transfer_encoding" not in asked.headers
    return length.isascii() and length.isdigit() and int(length[:19]) <= SHORT_BYTES_MAX
