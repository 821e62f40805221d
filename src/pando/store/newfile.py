"""Builds a database file from pages, beside its place, and renames it into place when it is whole and durable.

For databases that have no file yet, and for snapshots of another page size. The old file, if any, first goes out of the
way, and its WAL with it: a WAL must never meet another file. Not here: SQLite, which does not open a file that is
being built.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

from pando.errors import invariant
from pando.ltx import page_checksum
from pando.store.checksums import PageChecksums
from pando.store.files import FileHandle, FileMissing, FileSystem, remove_if_possible, temporary_path
from pando.store.steps import SLICE_BYTES, in_background
from pando.types import Pgno, lock_pgno

_FILE_MODE: Final = 0o644
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


def build_steps(
    fs: FileSystem,
    path: Path,
    page_size: int,
    page_count: int,
    pages: Iterable[tuple[Pgno, bytes]],
    table: PageChecksums,
) -> Generator[None, None, Path]:
    """Write all pages (any order that ascends, the lock page left out) to a temporary file, durably; gives its path."""
    target = temporary_path(path)
    remove_if_possible(fs, target)
    handle = fs.open_append(target, mode=_FILE_MODE)
    try:
        yield from _fill(handle, page_size, page_count, pages, table)
        yield from in_background(handle.fdatasync)
    except BaseException:
        handle.close()
        remove_if_possible(fs, target)
        raise
    handle.close()
    return target


def _fill(
    handle: FileHandle, page_size: int, page_count: int, pages: Iterable[tuple[Pgno, bytes]], table: PageChecksums
) -> Generator[None, None, None]:
    lock = lock_pgno(page_size)
    pending = bytearray()
    expected = 1
    for pgno, data in pages:
        if expected == lock and pgno == lock + 1:
            handle.write(pending)
            pending.clear()
            handle.truncate(lock * page_size)  # the lock page is a hole
            expected = pgno
        invariant(pgno == expected, "a new file gets every page in order", pgno=pgno, expected=expected)
        table.put(pgno, page_checksum(pgno, data))
        pending += data
        expected += 1
        if len(pending) >= SLICE_BYTES:
            handle.write(pending)
            pending.clear()
            yield
    handle.write(pending)
    if expected == lock == page_count:
        handle.truncate(lock * page_size)
        expected += 1
    invariant(expected == page_count + 1, "a new file gets every page", pages=expected - 1, page_count=page_count)
    table.resize(page_count)


def move_into_place(fs: FileSystem, built: Path, path: Path) -> None:
    """Give a built file its name. The old file must be closed; readers that have it open keep its state.

    A crash in between leaves no file of that name, which is taken for a database without pages: a snapshot follows.
    """
    remove_database(fs, path)
    fs.replace(built, path)
    fs.fsync_dir(path.parent)


def remove_database(fs: FileSystem, path: Path) -> None:
    """Remove a database file and what SQLite keeps beside it; a missing one is no error."""
    _unlink(fs, path)  # first, so that nobody can open the file with a WAL that is not its own
    for suffix in _SIDE_FILES:
        _unlink(fs, path.with_name(path.name + suffix))
    fs.fsync_dir(path.parent)


def _unlink(fs: FileSystem, path: Path) -> None:
    try:
        fs.unlink(path)
    except FileMissing:
        return
