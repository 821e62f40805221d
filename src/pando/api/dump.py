"""GET /dump: a database as a SQL script, of one moment, on every node.

It is copied first and told from the copy: a client that reads slowly holds a file and never a read transaction. Not
here: what the script is (`pando.sql.dumping`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from pando.api.http import Headers, Request, Response, error_body
from pando.api.pipeline import Request as Said
from pando.api.pipeline import read_headers
from pando.api.threads import in_thread
from pando.api.transfers import Transfers
from pando.errors import InvalidRequest, NotFound, StorageError
from pando.node.store_client import NodeStoreClient
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.dumping import dump
from pando.sql.service import SqlService
from pando.types import TXID, Bookmark, Epoch

_YES = frozenset({"true", "1", "yes", ""})
_NO = frozenset({"false", "0", "no"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpServices:
    """What the route needs."""

    store: NodeStoreClient
    service: SqlService
    authenticate: Callable[[Headers], Access]
    transfers: Transfers


class DumpRoute:
    """Answers /dump."""

    def __init__(self, services: DumpServices) -> None:
        self._services = services

    async def __call__(self, request: Request) -> Response:
        """Give the script. Raises PandoError."""
        if request.scope["path"] != "/dump":
            raise NotFound(f"there is nothing at {request.scope['path'][:200]}")
        if request.scope["method"] not in {"GET", "HEAD"}:
            headers = [(b"content-type", b"application/json"), (b"allow", b"GET")]
            return Response(405, headers, error_body("use GET", "METHOD_NOT_ALLOWED"))
        said = Said(self._services.authenticate(request.headers), "")
        read_headers(said, request.headers, None, database_from_host=False)
        said.access.check_database(said.database)
        call = Call(said.database, said.access, said.bookmark, caller=said.caller)
        self._services.service.check_copying(call)
        preserve = flag(request.query().get("preserve_row_ids", "false"), "preserve_row_ids")
        await self._until_fresh(call)
        opened = await self._services.store.open_database(said.database)
        pieces = await self._begin(Path(opened.path), preserve_row_ids=preserve)
        return Response(200, [(b"content-type", b"text/plain")], stream=pieces)

    async def _until_fresh(self, call: Call) -> None:
        """Wait a while for what the caller has written or seen elsewhere."""
        service = self._services.service
        if call.bookmark is not None and call.bookmark.database == call.database:
            await service.until_shown(call.bookmark)
        owed = service.owed(call, (0, 0))
        if owed is not None:
            await service.until_shown(Bookmark(database=call.database, epoch=Epoch(owed[0]), txid=TXID(owed[1])))

    async def _begin(self, database: Path, *, preserve_row_ids: bool) -> AsyncIterator[bytes]:
        """Copy the database and open the copy, of which no name is left then."""
        transfers = self._services.transfers
        path = await transfers.snapshot(database)
        try:
            connection = await in_thread(_open_copy, path)
        finally:
            transfers.forget(path)
        return _told(connection, dump(connection, preserve_row_ids=preserve_row_ids))


def _open_copy(path: Path) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except apsw.Error as error:
        raise StorageError(f"the copy cannot be read: {error}") from error
    return connection


async def _told(connection: apsw.Connection, pieces: Iterator[str]) -> AsyncIterator[bytes]:
    try:
        while (piece := await in_thread(next, pieces, None)) is not None:
            yield piece.encode()
    finally:
        await in_thread(connection.close, True)


def flag(text: str, name: str) -> bool:
    """Read a parameter that says yes or no; raises InvalidRequest."""
    if text.lower() not in _YES | _NO:
        raise InvalidRequest(f"{name} is {text[:40]!r}; it must be true or false")
    return text.lower() in _YES
