"""Brings files of records from the node that has them: a replica asks the primary, a new primary asks its replicas.

A file is fetched once, however many requests wait for it, and kept; so each node comes to hold what it is asked for.
Not here: which files a caller may see (`pando.api.records_files`), how they are kept (`pando.records.files`).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol
from urllib.parse import quote

from pando.clock import Clock
from pando.errors import NotReady, Overloaded, PandoError, PrimaryUnavailable, StorageError
from pando.node.http_client import Download, download
from pando.records.files.proofs import HEADER, FileProofs
from pando.records.files.storage import DEFAULT_TYPE, FileMissing, Storage
from pando.store import protocol as wire

FETCHES_MAX: Final = 8
"""Files of one web process that are under way at once."""
WAITING_MAX: Final = 256
"""Files that wait for their turn; more are refused."""
NODES_ASKED_MAX: Final = 16
"""Replicas that a primary without a file asks."""
PAUSE_S: Final = 30.0
"""How long nothing may come."""


class Nodes(Protocol):
    """What is needed of `pando.node.store_client.NodeStoreClient`."""

    @property
    def topology(self) -> wire.Topology:
        """Who is primary, as the own store says."""
        ...

    @property
    def is_primary(self) -> bool:
        """Whether this node is."""
        ...

    async def status(self) -> wire.NodeStatus:
        """Give what the own store says of the node, its replicas included. Raises NotReady."""
        ...


class NodeFiles:
    """Implements `pando.records.files.cabinet.Fetch`."""

    def __init__(self, nodes: Nodes, proofs: FileProofs, clock: Clock) -> None:
        self._nodes = nodes
        self._proofs = proofs
        self._clock = clock
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(FETCHES_MAX)

    async def __call__(self, storage: Storage, key: str) -> None:
        """Bring a file to a storage. Raises FileMissing if nobody has it, PandoError if that cannot be said."""
        task = self._fetching.get(key)
        if task is None:
            if len(self._fetching) >= FETCHES_MAX + WAITING_MAX:
                raise Overloaded(f"{len(self._fetching)} files are being fetched from other nodes; try again later")
            task = self._fetching[key] = asyncio.create_task(self._fetch(storage, key))
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.shield(task)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self._fetching[key]
        if not task.cancelled():
            task.exception()  # seen: whoever waited may have gone

    async def _fetch(self, storage: Storage, key: str) -> None:
        async with self._slots:
            failed: PandoError | None = None
            for url in await self._sources():
                try:
                    await self._fetch_from(url, storage, key)
                except FileMissing:
                    continue
                except PrimaryUnavailable as error:
                    failed = error
                else:
                    return
            raise failed or FileMissing(f"no node that can be asked has {key!r}")

    async def _sources(self) -> list[str]:
        if not self._nodes.is_primary:
            url = self._nodes.topology.primary_url
            if not url:
                raise PrimaryUnavailable("the file is not here, and the primary is not known; try again later")
            return [url]
        try:
            status = await self._nodes.status()
        except NotReady:
            return []
        return [each.url for each in status.replicas if each.url][:NODES_ASKED_MAX]

    async def _fetch_from(self, url: str, storage: Storage, key: str) -> None:
        path = "/api/files/" + quote(key)
        proof = self._proofs.make(path, self._clock.wall_ms() // 1000)
        async with download(url, path, [(HEADER.encode(), proof.encode())], pause_s=PAUSE_S) as found:
            if found.status == 404:
                raise FileMissing(f"{url} has no {key!r}")
            if found.status != 200:
                raise PrimaryUnavailable(f"{url} does not give {key!r} now: it answered {found.status}")
            await _keep(found, storage, key)

    async def close(self) -> None:
        """Give up what is under way."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)


async def _keep(found: Download, storage: Storage, key: str) -> None:
    """Store what comes, if it is all of it and nothing else. Raises PrimaryUnavailable, StorageError."""
    length = found.header(b"content-length")
    if not length.isdigit() or len(length) > 18:
        raise PrimaryUnavailable(f"{key!r} came without its length")
    content_type = found.header(b"content-type").decode("latin-1") or DEFAULT_TYPE
    await storage.put(key, found.chunks(), content_type=content_type, size_max=int(length))
    stored = await storage.head(key)
    tag = found.header(b"etag").decode("latin-1")
    if stored.size != int(length) or (len(tag) == len(stored.etag) == _MD5_TAG_CHARS and tag != stored.etag):
        await storage.delete(key)
        raise StorageError(f"{key!r} came with other bytes than the other node has")


_MD5_TAG_CHARS: Final = 34
"""A tag in quotes that is an MD5: both nodes have made it of the bytes."""
