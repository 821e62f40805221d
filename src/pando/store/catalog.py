"""Which databases a node has, and which are open: opened on demand, the least recently used closed when there are too
many.

One class for both roles; how a database is opened is given by the role. Not here: what an open database does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pando import limits
from pando.errors import DatabaseExists, NotReady, Overloaded, PandoError
from pando.store.database import Database
from pando.store.evidence import CASES_MAX
from pando.store.files import FileSystem, make_directories
from pando.store.history import Slot
from pando.store.layout import Layout
from pando.store.newfile import remove_database
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
        self._closing: dict[str, asyncio.Future[None]] = {}
        self._generations: dict[int, int] = {}
        self._free_slots = list(range(positions.slots - 1, -1, -1))
        self._generation = positions.boot << 32

    # -- looking --

    def names(self) -> list[str]:
        """Names of all databases."""
        return self._layout.names()

    def get(self, name: str) -> Database | None:
        """Give an open database; one that must be opened anew counts as closed."""
        found = self._open.get(name)
        return found if found is None or not found.must_reopen else None

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
        found = self.get(name)
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
        if name in self._open:
            await self._start_closing(self._open.pop(name))
        while (closing := self._closing.get(name)) is not None:
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
        if database is not None:
            await asyncio.shield(self._start_closing(database))
            return
        closing = self._closing.get(name)
        if closing is not None:
            await asyncio.wait([closing])

    def _start_closing(self, database: Database) -> asyncio.Future[None]:
        """Begin to close; nobody opens the database before the end of it, even if the caller is cancelled."""
        task = asyncio.get_running_loop().create_task(self._close(database))
        self._bar(database.name, task)
        return task

    def _bar(self, name: str, until: asyncio.Future[None]) -> None:
        """Let nobody open a database before something has ended."""
        self._closing[name] = until

        def lift(_done: asyncio.Future[None]) -> None:
            if self._closing.get(name) is until:
                del self._closing[name]

        until.add_done_callback(lift)

    @asynccontextmanager
    async def closed(self, name: str) -> AsyncIterator[None]:
        """Keep a database closed: its files may be replaced or removed. Nobody opens it meanwhile."""
        while name in self._open or name in self._opening or name in self._closing:
            await self.close(name)
        until = asyncio.get_running_loop().create_future()
        self._bar(name, until)
        try:
            yield
        finally:
            until.set_result(None)

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

    async def remove(self, name: str, *, keep_in: Path | None = None) -> None:
        """Close a database and delete its file and its log, or move the file into a new folder of `keep_in`.

        The default database cannot be removed.
        """
        if name == DEFAULT_DATABASE:
            raise NotReady("the default database cannot be removed")
        path = self._layout.require(name)
        async with self.closed(name):
            run = asyncio.get_running_loop().run_in_executor
            await run(None, self._remove_files, path, self._layout.log(name), keep_in)

    def _remove_files(self, path: Path, log: Path, keep_in: Path | None) -> None:
        """The file first: what a crash leaves behind then belongs to no database."""
        if keep_in is not None:
            self._keep(path, keep_in)
        remove_database(self._fs, path)
        if self._fs.exists(log):
            for segment in self._fs.listdir(log):
                self._fs.unlink(log / segment)
            self._fs.rmdir(log)
            self._fs.fsync_dir(log.parent)

    def _keep(self, path: Path, folder: Path) -> None:
        """Move a file aside with its WAL, as long as there are not too many kept ones."""
        make_directories(self._fs, folder)
        if len(self._fs.listdir(folder)) >= CASES_MAX:
            return
        self._generation += 1
        target = folder / f"dropped-{path.stem}-{self._generation}"
        make_directories(self._fs, target)
        for name in (f"{path.name}-wal", path.name):
            if self._fs.exists(path.with_name(name)):
                self._fs.replace(path.with_name(name), target / name)
        self._fs.fsync_dir(target)
