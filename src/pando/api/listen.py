"""GET /beta/listen: server-sent events that tell that a table was changed, on every node.

An event says that commits which may have changed the table became visible on this node; the store does not count rows,
so that the only action that is ever told is `unknown`. Not here: what changed (`/api/changes` for records).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from pando.api.http import Headers, Request, Response, error_body
from pando.api.pipeline import Request as Said
from pando.api.pipeline import read_headers
from pando.errors import InvalidRequest, NotFound, Overloaded, PandoError
from pando.node.store_client import NodeStoreClient
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.notices import Notices
from pando.sql.service import SqlService
from pando.store.protocol import Committed
from pando.store.requests import GetAutocommit

LISTENERS_MAX: Final = 1000
"""Open streams of this kind in one process."""
KEEP_ALIVE_S: Final = 15.0
"""Between two signs of life (sqld's figure)."""
TABLE_CHARS_MAX: Final = 1000
ACTIONS: Final = frozenset({"insert", "update", "delete", "unknown"})
_CHANGED: Final = b'event:changes\ndata:{"unknown":1}\n\n'
_ALIVE: Final = b":keep-alive\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenServices:
    """What the route needs."""

    store: NodeStoreClient
    service: SqlService
    notices: Notices
    authenticate: Callable[[Headers], Access]
    keep_alive_s: float = KEEP_ALIVE_S


class ListenRoute:
    """Answers /beta/listen."""

    def __init__(self, services: ListenServices) -> None:
        self._services = services
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all streams."""
        self._stopping.set()

    async def __call__(self, request: Request) -> Response:
        """Begin to tell. Raises PandoError."""
        if request.scope["path"] != "/beta/listen":
            raise NotFound(f"there is nothing at {request.scope['path'][:200]}")
        if request.scope["method"] != "GET":
            headers = [(b"content-type", b"application/json"), (b"allow", b"GET")]
            return Response(405, headers, error_body("use GET", "METHOD_NOT_ALLOWED"))
        said = Said(self._services.authenticate(request.headers), "")
        read_headers(said, request.headers, None, database_from_host=False)
        said.access.check_database(said.database)
        self._services.service.check_copying(Call(said.database, said.access))
        table = wanted_table(request.scope["query_string"])
        if self._open >= LISTENERS_MAX:
            raise Overloaded(f"{self._open} clients listen to this process already; try another node")
        await self._services.service.read(said.database, [GetAutocommit()])  # opens it, or says that there is none
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        return Response(200, headers, stream=self._tell(said.database, table, request))

    async def _tell(self, database: str, table: str, request: Request) -> AsyncIterator[bytes]:
        services = self._services
        seen = services.service.seen(database)
        last = (0, 0) if seen is None else (int(seen.epoch), int(seen.txid))
        changed = asyncio.Event()

        def told(notice: Committed) -> None:
            nonlocal last
            if (notice.epoch, notice.txid) > last:  # the first one tells only where the database is
                last = (notice.epoch, notice.txid)
                if not notice.tables or table in {name.lower() for name in notice.tables}:
                    changed.set()

        self._open += 1
        ends = [asyncio.ensure_future(self._stopping.wait()), asyncio.ensure_future(_gone(request))]
        try:
            try:
                services.notices.listen(database, told)
            except PandoError as error:
                yield f"event:error\ndata:{error.message}\n\n".encode()
                return
            yield _ALIVE
            while not any(end.done() for end in ends):
                waiting = asyncio.ensure_future(changed.wait())
                await asyncio.wait([waiting, *ends], timeout=services.keep_alive_s, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if changed.is_set():
                    changed.clear()
                    yield _CHANGED
                elif not any(end.done() for end in ends):
                    yield _ALIVE
        finally:
            self._open -= 1
            services.notices.unlisten(database, told)
            for end in ends:
                end.cancel()


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def wanted_table(query: bytes) -> str:
    """Read the parameters; gives the table in small letters. Raises InvalidRequest."""
    try:
        found = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest("the query is no URL-encoded text") from error
    tables = found.get("table", [])
    if len(tables) != 1 or not 0 < len(tables[0]) <= TABLE_CHARS_MAX:
        raise InvalidRequest("say which table: /beta/listen?table=NAME")
    unknown = set(found.get("action", [])) - ACTIONS
    if unknown:
        raise InvalidRequest(f"action {sorted(unknown)[0][:40]!r} is none of {', '.join(sorted(ACTIONS))}")
    return tables[0].lower()
