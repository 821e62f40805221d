"""A replica that refuses writes instead of passing them on (setting `replica_writes`), in the terms of VSKI.

Its clients and balancers choose the node themselves: a write at a replica is 403, and every answer of a replica says
whose it is and where the primary is. `GET /api/replica/status` is there in both cases. Not here: what passes writes on
(`records_app`, `records_forward`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from pando.api.http import Headers, Request, Response
from pando.api.records_app import Forward, RecordsApp, Reuse, Route, Router
from pando.api.records_http import ApiRequest, answer, read_request
from pando.errors import PandoError
from pando.log import EventLog
from pando.records.desk import Asking, Desk
from pando.store.protocol import NodeStatus, Topology
from pando.types import Role

CODE: Final = "REPLICA_READ_ONLY"
DROPPED_BYTES_MAX: Final = 1 << 20
"""Longer bodies of refused requests are not taken: the connection ends with the answer."""
_WORDS: Final = "This node is a replica and takes no writes; send them to the primary."


class Store(Protocol):
    """What is needed of the links to the stores."""

    @property
    def topology(self) -> Topology:
        """Who is who."""
        ...

    async def status(self) -> NodeStatus:
        """What the own store says of the node."""
        ...


class _Refusal(msgspec.Struct):
    error: str
    code: str


class _Database(msgspec.Struct, rename="camel"):
    name: str
    epoch: int
    txid: int
    lag_txids: int
    lag_seconds: float


class _Status(msgspec.Struct, rename="camel"):
    """What a node says of itself as a replica."""

    replica: bool
    replica_id: str
    master_url: str
    connected: bool
    writes: str
    databases: list[_Database]


class ReadOnlyReplica(RecordsApp):
    """The records API, which on a replica refuses what writes; on the primary it is the same as ever."""

    def __init__(
        self, desk: Desk, router: Router, forward: Forward, log: EventLog, *, topology: Callable[[], Topology]
    ) -> None:
        super().__init__(desk, router, forward, log)
        self._writes_of = router
        self._topology = topology

    async def respond_for(self, request: Request) -> tuple[Response, Reuse | None]:
        """Answer one request, and say how long the answer stays right."""
        topology = self._topology()
        if topology.role != Role.REPLICA:
            return await super().respond_for(request)
        if self._writes(request):
            if 0 < _length(request) <= DROPPED_BYTES_MAX:
                await request.drop()  # a connection closed on what is unread would take the answer along
            response, reuse = answer(_Refusal(_WORDS, CODE), 403), None
        else:
            response, reuse = await super().respond_for(request)
        return replace(response, headers=[*response.headers, *_headers(topology)]), reuse

    def _writes(self, request: Request) -> bool:
        with contextlib.suppress(PandoError):  # what is wrong with it is said by the other way
            found = self._writes_of.find(read_request(request))
            return found is not None and found.writes
        return False


def _length(request: Request) -> int:
    value = next((value for name, value in request.headers if name == b"content-length"), b"")
    return int(value[:19]) if value.isdigit() else 0


def _headers(topology: Topology) -> Headers:
    return [
        (b"x-replica-mode", b"true"),
        (b"x-replica-id", topology.node.encode()),
        (b"x-master-url", topology.primary_url.encode()),
    ]


def replica_routes(store: Store, writes: str) -> Mapping[str, Route]:
    """Give the route that tells of the node as a replica; `writes` is the setting."""

    async def status(_desk: Desk, _asking: Asking, _asked: ApiRequest) -> Response:
        """GET replica/status."""
        found = await store.status()
        is_replica = found.role == Role.REPLICA
        databases = [
            _Database(each.name, each.epoch, each.txid, each.lag_txids, each.lag_s) for each in found.databases
        ]
        return answer(
            _Status(
                replica=is_replica,
                replica_id=found.node,
                master_url=found.primary_url,
                connected=found.upstream_connected or not is_replica,
                writes=writes if is_replica else "accept",
                databases=databases,
            )
        )

    return {"GET replica/status": status}
