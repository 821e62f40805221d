"""Makes snapshot files of databases for replicas, shared by all who ask for the same database at the same time.

The position is held while the applier pins what it reads; then commits go on. Not here: sending the file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pando.store import applier_protocol as wire
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.types import Position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A complete, verified snapshot file at a position."""

    database: str
    path: Path
    position: Position
    size_bytes: int
    page_size: int


class Snapshots:
    """Makes snapshots through the applier; a file lives until its last user releases it."""

    def __init__(self, context: StoreContext, catalog: Catalog) -> None:
        self._context = context
        self._catalog = catalog
        self._number = count(1)
        self._making: dict[str, asyncio.Task[Snapshot]] = {}
        self._users: dict[Path, int] = {}

    async def make(self, name: str) -> Snapshot:
        """Make a snapshot, or share one that is being made. Raises PandoError. Release it when done."""
        task = self._making.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._make(name))
            self._making[name] = task
            task.add_done_callback(lambda _: self._making.pop(name, None))
        snapshot = await asyncio.shield(task)
        self._users[snapshot.path] = self._users.get(snapshot.path, 0) + 1
        return snapshot

    def release(self, snapshot: Snapshot) -> None:
        """Say that a user needs the file no more."""
        left = self._users.get(snapshot.path, 0) - 1
        if left > 0:
            self._users[snapshot.path] = left
        else:
            self._users.pop(snapshot.path, None)
            snapshot.path.unlink(missing_ok=True)

    async def _make(self, name: str) -> Snapshot:
        database = await self._catalog.open(name)
        applier = self._context.applier
        out_path = self._context.layout.temporary / f"{name}-{next(self._number)}.snapshot.ltx"
        finished: asyncio.Future[wire.SnapshotWritten] | None = None

        async def pin(position: Position) -> None:
            nonlocal finished
            request = wire.WriteSnapshot(
                applier.next_id(),
                name,
                database.path,
                str(out_path),
                position.epoch,
                position.txid,
                position.checksum,
                self._context.clock.wall_ms(),
            )
            pinned, finished = applier.start(request)
            await pinned

        position = await database.pinned(pin)
        assert finished is not None
        written = await finished
        header = out_path.open("rb").read(12)
        return Snapshot(name, out_path, position, written.size_bytes, int.from_bytes(header[8:12], "big"))
