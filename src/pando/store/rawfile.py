"""Raw reads of a database file, its WAL and its WAL index, beside SQLite, in the process of the writer.

POSIX locks belong to a process: closing any descriptor of the database file or of its `-shm` would drop SQLite's locks
on it. So all are opened before SQLite opens the file and closed after it has closed it. Only read, never written.
Not here: what pages and frames mean.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from pando.errors import CorruptionError, StorageError
from pando.types import is_page_size

_CHUNK_PAGES_BYTES = 1 << 20
_HEADER_BYTES = 100
_INDEX = struct.Struct("=IIIBBHII2I8s8s")
_INDEX_TRIES = 1000


class WalState(NamedTuple):
    """What the WAL index says: the state that a reader who begins now would see.

    `changes` counts commits of all processes (modulo 2**32; it begins anew when somebody has to recover the index).
    `frames` committed frames are in the WAL, the last one's checksum is `checksum`; `page_count` is the database's size
    after them. `salts` are bytes 16..23 of the WAL's header, once it has been written.
    """

    changes: int
    page_count: int
    frames: int
    checksum: tuple[int, int]
    salts: bytes


class RawFile:
    """Descriptors of a database file, of its `-wal` and of its `-shm`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fds: list[int] = []
        self._file = self._wal = self._shm = -1
        try:
            self._file = self._open(path, 0o644)
            mode = os.fstat(self._file).st_mode & 0o777
            self._wal = self._open(path + "-wal", mode)
            self._shm = self._open(path + "-shm", mode)
        except OSError as error:
            self.close()
            raise StorageError(f"cannot open {path}: {error.strerror}") from error
        self.page_size = 0
        self.page_count = 0

    def _open(self, path: str, mode: int) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, mode)
        self._fds.append(fd)
        return fd

    def read_header(self) -> bytes:
        """Read the first 100 bytes of the file; fewer when it is empty. Raises StorageError."""
        return self._pread(self._file, _HEADER_BYTES, 0, "")

    def learn_page_size(self) -> int:
        """Find the page size from the file, or for an empty one from its WAL; 0: neither says. Raises CorruptionError.

        The file's header comes first: what a loss of power leaves of a WAL's header may be anything.
        """
        header = self.read_header()
        if len(header) >= _HEADER_BYTES:
            if not header.startswith(b"SQLite format 3\0"):
                raise CorruptionError(f"{self.path} is not a SQLite database; it begins with {header[:16]!r}")
            size = int(struct.unpack_from(">H", header, 16)[0])
            size = 65536 if size == 1 else size
            if not is_page_size(size):
                raise CorruptionError(f"{self.path} claims a page size of {size}")
        else:
            wal = self.pread_wal(0, 32)
            size = int(struct.unpack_from(">I", wal, 8)[0]) if len(wal) == 32 else 0
            size = size if is_page_size(size) else 0
        self.page_size = size
        return size

    def read_state(self) -> WalState | None:
        """Read the WAL index: None before SQLite has made it. Raises StorageError while somebody's update is
        unfinished.

        There are two copies, written one after the other, so that a torn read shows. About 0.6 us.
        """
        for _ in range(_INDEX_TRIES):
            data = self._pread(self._shm, 2 * _INDEX.size, 0, "-shm")
            if data[: _INDEX.size] == data[_INDEX.size :]:
                break
        else:
            raise StorageError(f"the index of {self.path}-wal stays half written; the next transaction repairs it")
        if len(data) < 2 * _INDEX.size:
            return None
        _, _, changes, is_ready, _, _, frames, page_count, sum1, sum2, salts, _ = _INDEX.unpack_from(data)
        return WalState(changes, page_count, frames, (sum1, sum2), salts) if is_ready else None

    def _pread(self, fd: int, size: int, offset: int, suffix: str) -> bytes:
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}{suffix}: {error.strerror}") from error

    def pread_wal(self, offset: int, size: int) -> bytes:
        """Read from the WAL; fewer bytes only at its end. Raises StorageError."""
        return self._pread(self._wal, size, offset, "-wal")

    def read_page(self, pgno: int) -> bytes:
        """Read a page of the file as it is on disk, zeros past the end."""
        size = self.page_size
        return self._pread(self._file, size, (pgno - 1) * size, "").ljust(size, b"\0")

    def read_pages(self, first: int) -> list[bytes]:
        """Read a run of pages from page `first` on, the last one filled up with zeros as SQLite does; empty at the
        end.
        """
        size = self.page_size
        data = self._pread(self._file, max(1, _CHUNK_PAGES_BYTES // size) * size, (first - 1) * size, "")
        return [data[at : at + size].ljust(size, b"\0") for at in range(0, len(data), size)]

    @property
    def file_size_bytes(self) -> int:
        """Size of the database file."""
        return os.fstat(self._file).st_size

    @property
    def file_pages(self) -> int:
        """Pages in the database file; a begun one counts, as SQLite has it."""
        return -(-self.file_size_bytes // self.page_size)

    @property
    def wal_size_bytes(self) -> int:
        """Size of the WAL file, which keeps its length when it begins anew."""
        return os.fstat(self._wal).st_size

    def is_current(self) -> bool:
        """Whether the names still stand for what is open (nobody put other files there)."""
        try:
            open_now = [os.fstat(fd) for fd in self._fds]
            named = [Path(self.path + suffix).stat() for suffix in ("", "-wal", "-shm")]
        except OSError:
            return False
        return all(
            (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino) for one, two in zip(open_now, named, strict=True)
        )

    def close(self) -> None:
        """Close all; only after SQLite has closed the file. Safe to call twice."""
        fds, self._fds = self._fds, []
        self._file = self._wal = self._shm = -1  # the numbers will be other files'
        for fd in reversed(fds):
            os.close(fd)
