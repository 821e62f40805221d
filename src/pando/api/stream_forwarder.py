"""Sends a subscription request to the web process that holds its event stream: a sibling, or one of another node.

The way is in the client's id (`pando.records.realtime.client_ids`). The header `pando-stream-hop` says how far a
request has come and what its client's address is; it is signed with the cluster's secret, and without that it counts
for nothing. Not here: the streams (`pando.api.records_realtime`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from pando.api.http import Headers, Response
from pando.api.node_urls import NodeUrls, Store
from pando.api.records_http import ApiRequest
from pando.errors import PrimaryUnavailable
from pando.node.http_client import exchange
from pando.records.problems import ApiError, not_found
from pando.records.realtime.client_ids import StreamHome

HOP: Final = b"pando-stream-hop"
FORWARD_S: Final = 10.0
"""Longest answer of the other process: it reads one record."""
_DROPPED: Final = frozenset({b"content-length", b"date", b"server"})


class Distance(IntEnum):
    """How far a request has come."""

    CLIENT = 0
    NODE = 1
    """From another node: it may go on to a sibling."""
    SIBLING = 2


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a request comes from, and the address of its client."""

    distance: Distance
    ip: str


class StreamForwarder:
    """Finds the process of a stream, and passes request and answer through."""

    def __init__(self, store: Store, web_socket: Callable[[int], Path], *, index: int, key: bytes) -> None:
        self._store = store
        self._web_socket = web_socket
        self._index = index
        self._key = key
        self._urls = NodeUrls(store)

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._store.topology.node

    @property
    def index(self) -> int:
        """Which web process of the node this one is."""
        return self._index

    def hop_of(self, asked: ApiRequest, body: bytes) -> Hop | None:
        """Read the header; None if there is none that a node of the cluster has made for this body."""
        text = asked.request.header(HOP).decode("latin-1")
        distance, _, rest = text.partition(";")
        mac, _, ip = rest.partition(";")
        if distance not in ("1", "2"):
            return None
        if not hmac.compare_digest(mac.encode(), self._mac(distance, ip, body).encode()):
            return None
        return Hop(Distance(int(distance)), ip)

    def is_here(self, home: StreamHome) -> bool:
        """Tell whether a stream lives in this process, if it lives."""
        return home.is_on(self.node) and home.index == self._index

    async def forward(self, asked: ApiRequest, body: bytes, home: StreamHome, hop: Hop) -> Response:
        """Give the answer of the process of a stream. Raises ApiError 404 if there is none, PandoError."""
        if home.is_on(self.node):
            if hop.distance is Distance.SIBLING:
                raise _nobody()
            return await self._send(str(self._web_socket(home.index)), Distance.SIBLING, asked, body, hop.ip)
        if hop.distance is not Distance.CLIENT:
            raise _nobody()
        url = await self._urls.find(home.is_on)
        if not url:
            raise _nobody()
        return await self._send(url, Distance.NODE, asked, body, hop.ip)

    async def _send(self, target: str, distance: Distance, asked: ApiRequest, body: bytes, ip: str) -> Response:
        scope = asked.request.scope
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        left = {b"content-length", b"host", HOP}
        headers: Headers = [pair for pair in asked.request.headers if pair[0] not in left]
        number = str(distance.value)
        headers.append((HOP, f"{number};{self._mac(number, ip, body)};{ip}".encode("latin-1")))
        try:
            status, answer, text = await exchange(target, "POST", path, headers, body, timeout_s=FORWARD_S)
        except PrimaryUnavailable as error:  # nobody answers there: the stream is lost with its process
            raise _nobody() from error
        return Response(status, [pair for pair in answer if pair[0] not in _DROPPED], text)

    def _mac(self, distance: str, ip: str, body: bytes) -> str:
        return hmac.digest(self._key, f"{distance};{ip};".encode() + body, hashlib.sha256).hex()


def _nobody() -> ApiError:
    return not_found("There is no event stream with this client id.")
