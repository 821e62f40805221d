"""Whole SQLite files in and out: POST /cluster/import and GET /cluster/export.

A file that comes in is written to DIR/.pando/tmp and given to the store; one that goes out is a copy of one moment,
made through SQLite's backup interface while writes go on. Not here: who may do it (`pando.api.cluster`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

import apsw

from pando import limits
from pando.api.threads import in_thread
from pando.clock import random_bytes
from pando.errors import Overloaded, StorageError, StorageFull
from pando.store.files import translate

TRANSFERS_MAX: Final = 4
"""Files that a web process moves at the same time; each holds a thread and a file of the database's size."""
WRITE_BYTES: Final = limits.MIB
READ_BYTES: Final = 256 * limits.KIB
BACKUP_PAGES: Final = 2048
"""Pages copied before the thread looks whether it is still wanted."""


class Transfers:
    """Moves files through a folder of temporary ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._active = 0

    def _begin(self) -> Path:
        if self._active >= TRANSFERS_MAX:
            raise Overloaded(f"{TRANSFERS_MAX} imports or exports run already; try again later")
        self._active += 1
        return self._folder / f"transfer-{random_bytes(8).hex()}.db"

    def reserve(self) -> Path:
        """Give the path of a temporary file that is not there yet; the caller passes it to `forget`.

        Raises Overloaded.
        """
        return self._begin()

    async def snapshot(self, database: Path) -> Path:
        """Copy a database as it is at this moment; the caller passes the path to `forget`.

        Raises StorageError, Overloaded.
        """
        path = self._begin()
        try:
            await in_thread(_backup, database, path)
        except BaseException:
            self.forget(path)
            raise
        return path

    async def receive(self, chunks: AsyncIterator[bytes]) -> Path:
        """Write a body to a temporary file; the caller passes it to `forget`. Raises StorageError, Overloaded."""
        path = self._begin()
        try:
            await _write(path, chunks)
        except BaseException:
            self.forget(path)
            raise
        return path

    def forget(self, path: Path) -> None:
        """Remove a temporary file if it is still there."""
        self._active -= 1
        path.unlink(missing_ok=True)

    async def copy(self, database: Path) -> tuple[int, AsyncIterator[bytes]]:
        """Copy a database as it is at this moment; gives the size, and the bytes. Raises StorageError, Overloaded."""
        path = self._begin()
        try:
            await asyncio.to_thread(_backup, database, path)
            file = path.open("rb")
        except BaseException:
            self.forget(path)
            raise
        self.forget(path)  # the open descriptor keeps the bytes; nothing is left behind if we die
        return path_size(file), _read(file)


def path_size(file: IO[bytes]) -> int:
    """Give the size of an open file."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


async def _write(path: Path, chunks: AsyncIterator[bytes]) -> None:
    try:
        with path.open("xb") as file:
            pending, size = [], 0
            async for chunk in chunks:
                pending.append(chunk)
                size += len(chunk)
                if size >= WRITE_BYTES:
                    await asyncio.to_thread(file.write, b"".join(pending))
                    pending, size = [], 0
            file.write(b"".join(pending))
    except OSError as error:
        raise translate(error, "write the imported file", path) from error


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, READ_BYTES):
            yield chunk


def _backup(database: Path, target: Path) -> None:
    """Copy all pages under one read transaction, so that no commit of others comes in between.

    SQLite counts the schema's version up in the copy; it is put back, so that equal content has equal checksums.
    """
    try:
        source = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        copy = apsw.Connection(str(target))
        try:
            copy.execute("PRAGMA synchronous=OFF")
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            with copy.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(BACKUP_PAGES)
            if source.pragma("page_count"):
                copy.pragma("schema_version", source.pragma("schema_version"))
        finally:
            copy.close(True)
            source.close(True)
    except apsw.FullError as error:
        raise StorageFull(f"no space for a copy of {database.name} in {target.parent}") from error
    except apsw.Error as error:
        raise StorageError(f"{database.name} cannot be copied: {error}") from error
