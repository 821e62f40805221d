"""Makes snapshot files of databases for replicas, shared by all who ask for the same database at the same time.

The position is held while the applier pins what it reads; then commits go on. Not here: sending the file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pando.errors import InternalError
from pando.store import applier_protocol as wire
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.types import TXID, Checksum, Epoch, Position


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
        self._making: dict[str, tuple[Path, asyncio.Task[Snapshot]]] = {}
        self._users: dict[Path, int] = {}

    async def make(self, name: str) -> Snapshot:
        """Make a snapshot, or share one that is being made. Raises PandoError. Release it when done."""
        making = self._making.get(name)
        if making is None:
            path = self._context.layout.temporary / f"{name}-{next(self._number)}.snapshot.ltx"
            making = path, asyncio.get_running_loop().create_task(self._make(name, path))
            self._making[name] = making
            making[1].add_done_callback(lambda done: self._made(name, path, done))
        path, task = making
        self._users[path] = self._users.get(path, 0) + 1
        try:
            return await asyncio.shield(task)
        except BaseException:
            self._leave(path)
            raise

    def release(self, snapshot: Snapshot) -> None:
        """Say that a user needs the file no more."""
        self._leave(snapshot.path)

    def _leave(self, path: Path) -> None:
        left = self._users.get(path, 0) - 1
        if left > 0:
            self._users[path] = left
        else:
            self._users.pop(path, None)
            path.unlink(missing_ok=True)

    def _made(self, name: str, path: Path, done: asyncio.Task[Snapshot]) -> None:
        del self._making[name]
        if done.cancelled() or done.exception() is not None or path not in self._users:
            path.unlink(missing_ok=True)  # broken off, or all who wanted it have gone meanwhile

    async def _make(self, name: str, out_path: Path) -> Snapshot:
        database = await self._catalog.open(name)
        applier = self._context.applier
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
        if finished is None:
            raise InternalError("the snapshot was not asked for")
        written = await finished
        if written.txid:
            position = Position(
                epoch=Epoch(written.epoch), txid=TXID(written.txid), checksum=Checksum(written.checksum)
            )
        with out_path.open("rb") as file:
            header = file.read(12)
        return Snapshot(name, out_path, position, written.size_bytes, int.from_bytes(header[8:12], "big"))
