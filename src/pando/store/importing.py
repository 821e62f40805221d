"""Takes a SQLite file as the content of a database: checked first, then moved into place as a new history.

A database that exists is replaced only when asked for and only while nobody writes to it. Not here: receiving the file.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import apsw

from pando.errors import CorruptionError, DatabaseExists, InvalidRequest
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.store.database import Database
from pando.store.files import FileMissing


async def import_file(context: StoreContext, catalog: Catalog, name: str, path: str, *, replace: bool) -> Database:
    """Check the file at `path` (on the same file system) and make it the database. Raises PandoError; then nothing
    changed.
    """
    run = asyncio.get_running_loop().run_in_executor
    await run(context.executor, check_file, path)
    target = context.layout.database(name)
    is_there = target.exists() and not await run(context.executor, _is_empty, context, name)
    if is_there and not replace:
        raise DatabaseExists(f"there is a database {name!r} with data already; give --replace to replace it")
    async with catalog.closed(name):
        await run(context.executor, _move, context, path, target)
    return await catalog.open(name)


def check_file(path: str) -> None:
    """Refuse what is no sound SQLite database; a rollback journal beside it is played back."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            stated = connection.execute("PRAGMA page_count").get * connection.execute("PRAGMA page_size").get
            found = connection.execute("PRAGMA quick_check(1)").get
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        finally:
            connection.close()
    except apsw.NotADBError as error:
        raise InvalidRequest("the file is not a SQLite database (or it is encrypted)") from error
    except apsw.Error as error:
        raise InvalidRequest(f"the file cannot be read as a SQLite database: {error}") from error
    size = Path(path).stat().st_size
    if size < stated:  # SQLite reads what is missing of the last page as zeros, and calls that sound
        raise CorruptionError(f"the file is cut short and was not imported: {size} bytes of {stated}")
    if found != "ok":
        raise CorruptionError(f"the file is damaged and was not imported: {str(found)[:500]}")


def _is_empty(context: StoreContext, name: str) -> bool:
    """Tell whether a database holds no tables; the default one exists from the start."""
    path = context.layout.database(name)
    if path.stat().st_size == 0:
        return True
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return bool(connection.execute("SELECT count(*) FROM sqlite_schema").get == 0)
    finally:
        connection.close()


def _move(context: StoreContext, path: str, target: Path) -> None:
    """Put the file into its place, durable before it has the name: recovery makes its content the base of a history."""
    handle = context.fs.open_append(Path(path), create=False)
    try:
        handle.fdatasync()
    finally:
        handle.close()
    # A crash in between leaves the old file without its WAL: the log brings that back.
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileMissing):
            context.fs.unlink(target.with_name(target.name + suffix))
    context.fs.fsync_dir(target.parent)
    context.fs.replace(Path(path), target)
    context.fs.fsync_dir(target.parent)
