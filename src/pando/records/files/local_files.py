"""Files that are read or written in threads for callers that may go at any moment.

A caller that is cancelled cannot wait for its thread, and a descriptor that is closed while a thread writes to it may
be another file's by then. So `close` never waits: if a thread is at it, that thread closes when it is done.
Not here: where the files are (`pando.records.files.local_storage`).
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pando.errors import StorageError
from pando.store.files import FileHandle, FileMissing, FileSystem, make_directories, remove_if_possible, translate

_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755


def stat_file(path: Path) -> os.stat_result:
    """Look at a file. A directory is none: FileMissing, as for a name that is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise translate(error, "looking at", path) from error
    if not stat.S_ISREG(found.st_mode):
        raise FileMissing(f"{str(path)!r} is no file")
    return found


class _Used:
    """A file that one thread at a time uses."""

    def __init__(self, fs: FileSystem, path: Path) -> None:
        self._fs = fs
        self.path = path
        self._lock = threading.Lock()
        self._is_closed = False
        self._handle: FileHandle | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it open meanwhile. Raises StorageError if it is closed already."""
        try:
            with self._lock:
                if self._is_closed:
                    raise StorageError(f"{str(self.path)!r} was closed by another")
                yield
        finally:
            if self._is_closed:
                self.close()

    def close(self) -> None:
        """Close now, or when the thread that is at it is done. Safe to call twice."""
        self._is_closed = True
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._end()
        finally:
            self._lock.release()

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _open(self) -> FileHandle:
        if self._handle is None:
            raise StorageError(f"{str(self.path)!r} is not open")
        return self._handle


class FileReading(_Used):
    """A file that is read."""

    def begin(self) -> None:
        """Open it. Raises FileMissing."""
        with self.in_use():
            stat_file(self.path)
            self._handle = self._fs.open_read(self.path)

    def pread(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""
        with self.in_use():
            return self._open().pread(offset, size)


class FileWriting(_Used):
    """A temporary file that is written; `close` removes it, unless it got another name by then."""

    def __init__(self, fs: FileSystem, path: Path) -> None:
        super().__init__(fs, path)
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def begin(self) -> None:
        """Make it, and its directory."""
        with self.in_use():
            make_directories(self._fs, self.path.parent, _DIRECTORY_MODE)
            self._handle = self._fs.open_append(self.path, mode=_MODE)

    def add(self, data: bytes) -> None:
        """Write at the end."""
        with self.in_use():
            self._open().write(data)
            self.md5.update(data)
            self.size += len(data)

    def sync(self) -> None:
        """Return when all is on the disk. For use within `in_use`."""
        self._open().fdatasync()

    def _end(self) -> None:
        is_begun = self._handle is not None
        super()._end()
        if is_begun:
            remove_if_possible(self._fs, self.path)
