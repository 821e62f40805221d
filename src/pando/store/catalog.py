"""Which databases a node has, and which are open: opened on demand, the least recently used closed when there are too many.

One class for both roles; how a database is opened is given by the role. Not here: what an open database does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pando import limits
from pando.errors import DatabaseExists, NotReady, Overloaded, PandoError
from pando.store.database import Database
from pando.store.files import FileSystem
from pando.store.history import Slot
from pando.store.layout import Layout
from pando.store.positions import PositionTable
from pando.types import DEFAULT_DATABASE

OpenDatabase = Callable[[str, Slot, int], Awaitable[Database]]
"""Opens a database: name, slot, generation of the slot."""


class Catalog:
    """The databases of one store process."""

    def __init__(
        self,
        *,
        layout: Layout,
        fs: FileSystem,
        positions: PositionTable,
        open_database: OpenDatabase,
        open_max: int = limits.OPEN_DATABASES_MAX,
    ) -> None:
        self._layout = layout
        self._fs = fs
        self._positions = positions
        self._open_database = open_database
        self._open_max = open_max
        self._open: dict[str, Database] = {}
        self._opening: dict[str, asyncio.Task[Database]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._generations: dict[int, int] = {}
        self._free_slots = list(range(positions.slots - 1, -1, -1))
        self._generation = positions.boot << 32

    # -- looking --

    def names(self) -> list[str]:
        """Names of all databases."""
        return self._layout.names()

    def get(self, name: str) -> Database | None:
        """Give an open database."""
        return self._open.get(name)

    def opened(self) -> list[Database]:
        """All open databases."""
        return list(self._open.values())

    def generation(self, database: Database) -> int:
        """Generation of the slot that an open database publishes in."""
        return self._generations[database.slot.number]

    def bump(self, database: Database) -> None:
        """The file was replaced by another one: readers notice the slot's new generation and open it again."""
        self._generation += 1
        self._positions.renew(database.slot.number, self._generation)
        self._generations[database.slot.number] = self._generation

    # -- opening --

    async def open(self, name: str, *, may_be_new: bool = False) -> Database:
        """Give the open database, opening it if need be. Raises UnknownDatabase and what recovery may raise.

        `may_be_new`: the file need not be there yet (a replica that is about to receive it).
        """
        found = self._open.get(name)
        if found is not None:
            return found
        task = self._opening.get(name)
        if task is None:
            if not may_be_new:
                self._layout.require(name)
            task = asyncio.get_running_loop().create_task(self._open_new(name))
            self._opening[name] = task
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(task)

    async def _open_new(self, name: str) -> Database:
        closing = self._closing.get(name)
        if closing is not None:
            await asyncio.wait([closing])
        await self._make_room()
        number = self._free_slots.pop()
        self._generation += 1
        slot = Slot(table=self._positions, number=number)
        self._positions.claim(number, self._generation)
        self._generations[number] = self._generation
        try:
            database = await self._open_database(name, slot, self._generations[number])
        except BaseException:
            self._free(slot)
            raise
        self._open[name] = database
        return database

    async def _make_room(self) -> None:
        while len(self._open) >= self._open_max or not self._free_slots:
            idle = [
                database for database in self._open.values() if database.is_idle and database.name != DEFAULT_DATABASE
            ]
            if not idle:
                raise Overloaded(f"all {len(self._open)} open databases are busy; try again later")
            await self.close(min(idle, key=lambda database: database.last_used).name)

    async def close(self, name: str) -> None:
        """Close a database if it is open; it is opened again on demand."""
        opening = self._opening.get(name)
        if opening is not None:
            with suppress(PandoError):
                await asyncio.shield(opening)
        database = self._open.pop(name, None)
        if database is None:
            closing = self._closing.get(name)
            if closing is not None:
                await asyncio.wait([closing])
            return
        task = asyncio.get_running_loop().create_task(self._close(database))
        self._closing[name] = task
        try:
            await asyncio.shield(task)
        finally:
            self._closing.pop(name, None)

    async def _close(self, database: Database) -> None:
        try:
            await database.close()
        finally:
            self._free(database.slot)

    def _free(self, slot: Slot) -> None:
        self._positions.release(slot.number)
        self._generations.pop(slot.number, None)
        self._free_slots.append(slot.number)

    async def close_all(self) -> None:
        """Close everything; used at the end of the process."""
        for name in [*self._opening, *self._open]:
            await self.close(name)

    # -- making and removing --

    async def create(self, name: str) -> Database:
        """Make an empty database. Raises DatabaseExists."""
        if name == DEFAULT_DATABASE or self._layout.database(name).exists():
            raise DatabaseExists(f"there is a database {name!r} already")
        if len(self.names()) >= limits.DATABASES_MAX:
            raise Overloaded(f"this node has {limits.DATABASES_MAX} databases, which is the limit")
        self._layout.database(name).touch()
        return await self.open(name)

    async def remove(self, name: str) -> None:
        """Close a database and delete its files and its log. The default database cannot be removed."""
        if name == DEFAULT_DATABASE:
            raise NotReady("the default database cannot be removed")
        path = self._layout.require(name)
        await self.close(name)
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).unlink()
        log = self._layout.log(name)
        for segment in sorted(log.glob("*"), reverse=True):
            segment.unlink()
        with suppress(FileNotFoundError):
            log.rmdir()
