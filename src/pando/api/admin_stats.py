"""Statistics of databases, and the open streams: of this node, all of its web processes together.

Each process counts for itself since it began; the one that is asked asks its siblings over their unix sockets. Numbers
of other nodes are theirs to give. Not here: counting (`pando.sql.statistics`), who may ask (`pando.api.admin`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pando.api.http import Request, Response, json_response
from pando.clock import Clock
from pando.errors import PandoError
from pando.node.http_client import Headers, exchange
from pando.node.store_client import NodeStoreClient
from pando.sql.service import SqlService
from pando.sql.statistics import Counters, Query, Runs, joined, percentile_ms
from pando.store.requests import Execute, Statement, StatementResult

SIBLING_S: Final = 2.0
"""How long a sibling may take; one that does not answer is left out."""
ONLY: Final = b"pando-this-process"
"""Header of a request that a sibling sent: the answer is about this process alone."""
STREAMS_TOLD: Final = 1000
"""Open streams that are named."""

_PERCENTILES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

_Told = TypeVar("_Told")


class _Share(msgspec.Struct):
    """What one process tells of a database."""

    counters: Counters
    since_s: int = 0
    """When the process began to count."""


class AdminStats:
    """The answers of one process, with its siblings'."""

    def __init__(
        self,
        store: NodeStoreClient,
        service: SqlService,
        *,
        siblings: Callable[[], Iterable[Path]],
        clock: Clock,
    ) -> None:
        """`siblings`: unix sockets of the node's other web processes."""
        self._store = store
        self._service = service
        self._siblings = siblings
        self._since_s = clock.wall_ms() // 1000

    def forget(self, name: str) -> None:
        """The database was deleted."""
        self._service.statistics.forget(name)

    async def of_node(self, request: Request, name: str) -> Response:
        """What a database was asked, in sqld's fields."""
        own = self._service.statistics.of(name)
        if request.header(ONLY):
            return json_response(_Share(own, self._since_s))
        size, txid = await self._look(name)
        shares = await self._ask(request, _Share)
        total = joined([own, *(share.counters for share in shares)])
        since_s = min([self._since_s, *(share.since_s for share in shares)])
        return json_response(
            {
                "id": name,
                "rows_read_count": total.rows_read,
                "rows_written_count": total.rows_written,
                "storage_bytes_used": size,
                "write_requests_delegated": total.forwarded,
                "replication_index": txid,
                "top_queries": [_view(query) for query in total.top],
                "slowest_queries": [{**_times(query.elapsed_ms), **_view(query)} for query in total.slowest],
                "embedded_replica_frames_replicated": 0,
                "query_count": total.queries,
                "elapsed_ms": round(total.elapsed_ms, 3),
                "queries": _insights(f"{self._store.topology.node}/{name}/{since_s}", since_s, total),
                "processes": 1 + len(shares),
                "node": self._store.topology.node,
            }
        )

    async def _look(self, name: str) -> tuple[int, int | None]:
        """Give the size of a database and the newest commit that this node shows. Raises UnknownDatabase, NotReady."""
        size = Statement("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        (result,) = await self._service.read(name, [Execute(size)])
        seen = self._service.seen(name)
        found = int(str(result.rows[0][0])) if isinstance(result, StatementResult) else 0
        return found, None if seen is None else int(seen.txid)

    async def reset(self, request: Request, name: str, which: str) -> Response:
        """Begin the list of the heaviest or slowest statements anew, in all processes of this node."""
        await request.drop()
        self._service.statistics.reset(name, slowest=which == "slowest")
        if not request.header(ONLY):
            await self._look(name)
            await self._ask(request, type(None))
        return Response(200, [])

    async def diagnostics(self, request: Request) -> Response:
        """A line for each open stream."""
        own = self._service.describe_streams(STREAMS_TOLD)
        if not request.header(ONLY):
            for others in await self._ask(request, list[str]):
                own += others
        return json_response(own[:STREAMS_TOLD])

    async def _ask(self, request: Request, kind: type[_Told]) -> list[_Told]:
        """Ask the siblings the same; those that do not answer are left out."""
        headers = [(name, value) for name, value in request.headers if name in {b"authorization", b"host"}]
        headers.append((ONLY, b"1"))
        method, path = request.scope["method"], request.scope["path"]
        asked = (self._ask_one(socket, method, path, headers, kind) for socket in self._siblings())
        return [told for told in await asyncio.gather(*asked) if told is not None]

    async def _ask_one(self, socket: Path, method: str, path: str, headers: Headers, kind: type[_Told]) -> _Told | None:
        try:
            status, _, body = await exchange(str(socket), method, path, headers, b"", timeout_s=SIBLING_S)
            return msgspec.json.decode(body, type=kind) if status == 200 and body else None
        except (PandoError, msgspec.MsgspecError):
            return None


def _insights(source: str, since_s: int, total: Counters) -> dict[str, object]:
    """Give statements with the sums of their runs, and percentiles of how long the last ones took.

    `source` is who has counted, and since when: its id is the same until that is another one.
    """
    ordered_ms = sorted(total.durations_ms)
    percentiles = {label: round(percentile_ms(ordered_ms, part), 3) for label, part in _PERCENTILES.items()}
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, source)),
        "created_at": since_s,
        "count": total.queries,
        "stats": [_run_view(runs) for runs in total.runs],
        "elapsed": {"sum": round(total.elapsed_ms, 3), **percentiles},
    }


def _times(elapsed_ms: float) -> dict[str, int]:
    """Whole milliseconds, as sqld and clients that read a whole number have it, and exactly."""
    return {"elapsed_ms": int(elapsed_ms), "elapsed_us": round(elapsed_ms * 1000)}


def _run_view(runs: Runs) -> dict[str, object]:
    return {**msgspec.structs.asdict(runs), "elapsed_ms": round(runs.elapsed_ms, 3)}


def _view(query: Query) -> dict[str, object]:
    return {"query": query.query, "rows_read": query.rows_read, "rows_written": query.rows_written}
