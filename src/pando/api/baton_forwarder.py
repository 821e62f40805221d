"""Sends a request to the web process that holds its stream: a sibling by unix socket, one of another node over TCP.

Not here: what a baton is (`pando.sql.batons`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pando.api.node_urls import NodeUrls
from pando.api.pipeline import BATON_HOP
from pando.errors import PandoError, PrimaryUnavailable, StreamExpired
from pando.node.http_client import Headers, exchange
from pando.node.store_client import NodeStoreClient
from pando.sql.batons import Baton

FORWARD_S: Final = 60.0
"""Longest answer of the other process; longer than any statement may run."""
NODE_HOP: Final = b"pando-node-hop"
"""Header of a request that another node sent on: it is not sent to a third one."""


class BatonForwarder:
    """Finds the process and passes request and answer through; implements `pando.api.pipeline.Forwarder`."""

    def __init__(self, store: NodeStoreClient, web_socket: Callable[[int], Path]) -> None:
        self._store = store
        self._web_socket = web_socket
        self._urls = NodeUrls(store)

    async def forward(self, baton: Baton, path: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """Give status, headers and body of the answer. Raises StreamExpired when the process is gone."""
        kept = [(name, value) for name, value in headers if name not in {b"content-length", BATON_HOP}]
        if baton.node == self._store.topology.node:
            target = str(self._web_socket(baton.web))
            kept.append((BATON_HOP, b"1"))
        else:
            if any(name == NODE_HOP for name, _ in headers):
                raise StreamExpired("the stream is on another node; start the transaction again")
            target = await self._url_of(baton.node)
            kept = [(name, value) for name, value in kept if name != b"host"]
            kept.append((NODE_HOP, b"1"))
        try:
            status, answer, text = await exchange(target, "POST", path, kept, body, timeout_s=FORWARD_S)
        except PrimaryUnavailable as error:
            raise StreamExpired("the process that held the stream is gone; start the transaction again") from error
        return status, [pair for pair in answer if pair[0] not in {b"content-length", b"date"}], text

    async def _url_of(self, node: str) -> str:
        try:
            url = await self._urls.find(node.__eq__)
        except PandoError as error:
            raise StreamExpired(f"the node that held the stream cannot be found: {error.message}") from error
        if not url:
            raise StreamExpired(f"the stream was on node {node[:64]}, which is not known here; start again")
        return url
