"""The only module that writes files durably, and the seam through which the log and its friends touch the disk.

Everything above talks to a `FileSystem`; `RealFileSystem` is the operating system's, `pando.testing.faults` has one
that fails, tears and loses power. All errors of the operating system become `StorageError`, `StorageFull` or
`FileMissing` here.
Not here: SQLite's own files, and shared memory (see `pando.store.positions`).
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import NamedTuple, Protocol

from pando.errors import StorageError, StorageFull

Buffer = bytes | bytearray | memoryview

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_READ_CHUNK = 1 << 30  # one pread gives at most 2 GiB - 4 KiB on Linux
_TEMPORARY_SUFFIX = ".tmp"


class FileMissing(StorageError):
    """There is no file or directory of that name."""

    code = "STORAGE_MISSING"


class FileStat(NamedTuple):
    """Size in bytes, and which file it is: as long as one of two is open, equal identities mean the same file."""

    size: int
    identity: tuple[int, int]


class FileHandle(Protocol):
    """An open file. Every method raises StorageError or StorageFull."""

    def pread(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        ...

    def write(self, data: Buffer) -> None:
        """Write all of `data` at the end of the file. After an error a part of it may be there: truncate."""
        ...

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of `data` at an offset, over what is there."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def fdatasync(self) -> None:
        """Return when the content and size of the file would survive a loss of power."""
        ...

    def stat(self) -> FileStat:
        """Give size and identity."""
        ...

    def close(self) -> None:
        """Give the descriptor back; safe to call twice."""
        ...


class FileSystem(Protocol):
    """What the log needs of a disk. A missing name raises FileMissing, any other refusal StorageError, StorageFull."""

    def open_append(self, path: Path, *, create: bool = True, mode: int = 0o600) -> FileHandle:
        """Open for reading and for writing at the end."""
        ...

    def open_read(self, path: Path) -> FileHandle:
        """Open for reading only."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename in one step, over a file that may be there; durable after `fsync_dir`."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file; durable after `fsync_dir`."""
        ...

    def mkdir(self, path: Path, *, mode: int = 0o700) -> None:
        """Make one directory; one that is there already is no error."""
        ...

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        ...

    def fsync_dir(self, path: Path) -> None:
        """Return when the names in this directory would survive a loss of power."""
        ...

    def listdir(self, path: Path) -> list[str]:
        """Give the names in a directory, sorted."""
        ...

    def stat(self, path: Path) -> FileStat:
        """Give size and identity of the file that has this name now."""
        ...

    def exists(self, path: Path) -> bool:
        """Tell whether the name stands for a file or directory."""
        ...


def translate(error: OSError, action: str, path: Path) -> StorageError:
    """Make the error of ours that stands for one of the operating system."""
    text = f"{action} {str(path)!r} failed: {error.strerror or error}"
    if error.errno in _FULL:
        return StorageFull(f"{text}; free space on that disk")
    if error.errno in _MISSING:
        return FileMissing(text)
    return StorageError(f"{text}; check the disk and the permissions")


class RealFile:
    """A file of the operating system. It remembers its end, so a file has one writer at a time."""

    __slots__ = ("_end", "_fd", "_path")

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self._end = os.fstat(fd).st_size

    def pread(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        try:
            if size <= _READ_CHUNK:
                return os.pread(self._fd, size, offset)
            return self._pread_large(offset, size)
        except OSError as error:
            raise translate(error, "reading", self._path) from error

    def _pread_large(self, offset: int, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = os.pread(self._fd, min(_READ_CHUNK, size - len(parts)), offset + len(parts))
            if not part:
                break
            parts += part
        return bytes(parts)

    def write(self, data: Buffer) -> None:
        """Write all of `data` at the end of the file."""
        try:
            written = os.pwrite(self._fd, data, self._end)
            if written < len(data):
                self._write_rest(self._end, memoryview(data), written)
        except OSError as error:
            raise translate(error, "writing", self._path) from error
        self._end += len(data)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of `data` at an offset, over what is there."""
        try:
            self._write_rest(offset, memoryview(data), 0)
        except OSError as error:
            raise translate(error, "writing", self._path) from error
        self._end = max(self._end, offset + len(data))

    def _write_rest(self, offset: int, data: memoryview, written: int) -> None:
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], offset + written)

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise translate(error, "truncating", self._path) from error
        self._end = size

    def fdatasync(self) -> None:
        """Return when content and size are on the disk."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise translate(error, "syncing", self._path) from error

    def stat(self) -> FileStat:
        """Give size and identity."""
        try:
            found = os.fstat(self._fd)
        except OSError as error:
            raise translate(error, "looking at", self._path) from error
        return FileStat(found.st_size, (found.st_dev, found.st_ino))

    def close(self) -> None:
        """Give the descriptor back; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
        except OSError as error:
            raise translate(error, "closing", self._path) from error


class RealFileSystem:
    """The operating system's files."""

    def open_append(self, path: Path, *, create: bool = True, mode: int = 0o600) -> RealFile:
        """Open for reading and for writing at the end."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return self._open(path, flags, mode)

    def open_read(self, path: Path) -> RealFile:
        """Open for reading only."""
        return self._open(path, os.O_RDONLY | os.O_CLOEXEC, 0)

    def _open(self, path: Path, flags: int, mode: int) -> RealFile:
        try:
            return RealFile(os.open(path, flags, mode), path)
        except OSError as error:
            raise translate(error, "opening", path) from error

    def replace(self, source: Path, target: Path) -> None:
        """Rename in one step, over a file that may be there."""
        try:
            os.replace(source, target)
        except OSError as error:
            raise translate(error, "renaming", source) from error

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        try:
            os.unlink(path)
        except OSError as error:
            raise translate(error, "removing", path) from error

    def mkdir(self, path: Path, *, mode: int = 0o700) -> None:
        """Make one directory; one that is there already is no error."""
        try:
            os.mkdir(path, mode)
        except FileExistsError as error:
            if not os.path.isdir(path):
                raise translate(error, "making directory", path) from error
        except OSError as error:
            raise translate(error, "making directory", path) from error

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        try:
            os.rmdir(path)
        except OSError as error:
            raise translate(error, "removing directory", path) from error

    def fsync_dir(self, path: Path) -> None:
        """Return when the names in this directory are on the disk."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise translate(error, "syncing directory", path) from error

    def listdir(self, path: Path) -> list[str]:
        """Give the names in a directory, sorted."""
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            raise translate(error, "listing", path) from error

    def stat(self, path: Path) -> FileStat:
        """Give size and identity of the file that has this name now."""
        try:
            found = os.stat(path)
        except OSError as error:
            raise translate(error, "looking at", path) from error
        return FileStat(found.st_size, (found.st_dev, found.st_ino))

    def exists(self, path: Path) -> bool:
        """Tell whether the name stands for a file or directory."""
        try:
            os.stat(path)
        except OSError as error:
            if error.errno in _MISSING:
                return False
            raise translate(error, "looking at", path) from error
        return True


def temporary_path(path: Path) -> Path:
    """Give the name under which a file is written before it takes its own; in the same directory, so rename works."""
    return path.with_name(path.name + _TEMPORARY_SUFFIX)


def is_temporary(name: str) -> bool:
    """Tell whether a name is one of `temporary_path`: what a crash left, free to be removed."""
    return name.endswith(_TEMPORARY_SUFFIX)


def write_durably(fs: FileSystem, path: Path, data: Buffer, mode: int = 0o600) -> None:
    """Put `data` under `path`: after a crash at any instant the old file is there or the new one, whole.

    One writer per path. When it returns, the new file survives a loss of power.
    """
    temporary = temporary_path(path)
    if fs.exists(temporary):
        fs.unlink(temporary)
    try:
        _write_synced(fs, temporary, data, mode)
        fs.replace(temporary, path)
    except StorageError:
        remove_if_possible(fs, temporary)
        raise
    fs.fsync_dir(path.parent)


def _write_synced(fs: FileSystem, path: Path, data: Buffer, mode: int) -> None:
    handle = fs.open_append(path, mode=mode)
    try:
        handle.write(data)
        handle.fdatasync()
    finally:
        handle.close()


def remove_if_possible(fs: FileSystem, path: Path) -> bool:
    """Remove a file that does no harm when it stays; tell whether it is gone."""
    try:
        fs.unlink(path)
    except FileMissing:
        return True
    except StorageError:
        return False
    return True


def make_directories(fs: FileSystem, path: Path, mode: int = 0o700) -> None:
    """Make a directory and those above it, each durably."""
    if fs.exists(path):
        return
    make_directories(fs, path.parent, mode)
    fs.mkdir(path, mode=mode)
    fs.fsync_dir(path.parent)


def read_bounded(fs: FileSystem, path: Path, max_bytes: int) -> bytes:
    """Read a whole file; one longer than `max_bytes` raises StorageError before anything is read."""
    handle = fs.open_read(path)
    try:
        size = handle.stat().size
        if size > max_bytes:
            raise StorageError(f"{str(path)!r} has {size} bytes; at most {max_bytes} were expected")
        data = handle.pread(0, max_bytes + 1)
    finally:
        handle.close()
    if len(data) > max_bytes:
        raise StorageError(f"{str(path)!r} grew past {max_bytes} bytes while it was read")
    return data


class FileLock:
    """An exclusive `flock` on a file, held until `release` or the end of the process.

    The holder's process id is written into the file, for the message to the one who comes second.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    @property
    def is_held(self) -> bool:
        """Tell whether this object holds the lock."""
        return self._fd >= 0

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never waits. Raises StorageError if the file cannot be used."""
        if self.is_held:
            return True
        try:
            return self._try_acquire()
        except OSError as error:
            raise translate(error, "locking", self._path) from error

    def _try_acquire(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def holder(self) -> int | None:
        """Give the process id that the last holder wrote, if it can be read."""
        try:
            text = self._path.read_bytes()[:32].strip()
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise translate(error, "reading", self._path) from error
        return int(text) if text.isdigit() else None

    def release(self) -> None:
        """Give the lock back; the file stays, so that nobody locks a file that another is about to remove."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
