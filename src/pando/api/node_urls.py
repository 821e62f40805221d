"""Where the other nodes of the cluster are: asked of the primary once, and again when somebody is not among them.

Not here: sending anything there (`pando.api.baton_forwarder`, `pando.api.stream_forwarder`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pando.store import protocol as wire

NODES_KNOWN_MAX: Final = 1024


class Store(Protocol):
    """What is needed of `pando.node.store_client.NodeStoreClient`."""

    @property
    def topology(self) -> wire.Topology:
        """Who is primary, as the own store says."""
        ...

    async def primary_status(self) -> wire.NodeStatus:
        """Give what the primary's store says of its node. Raises PrimaryUnavailable."""
        ...


class NodeUrls:
    """URLs of nodes by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._urls: dict[str, str] = {}

    async def find(self, is_meant: Callable[[str], bool]) -> str:
        """Give the URL of the node whose name is meant, "" if there is none. Raises PandoError: it cannot be said."""
        return self._known(is_meant) or await self._learn(is_meant)

    def _known(self, is_meant: Callable[[str], bool]) -> str:
        return next((url for node, url in self._urls.items() if is_meant(node)), "")

    async def _learn(self, is_meant: Callable[[str], bool]) -> str:
        primary_url = self._store.topology.primary_url
        status = await self._store.primary_status()
        found = {replica.node: replica.url for replica in status.replicas[:NODES_KNOWN_MAX]}
        self._urls = {**found, status.node: primary_url}
        return self._known(is_meant)
