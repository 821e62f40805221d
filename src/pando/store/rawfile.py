"""Raw reads of a database file and its WAL, beside SQLite, in the process of the writer.

POSIX locks belong to a process: closing any descriptor of the database file would drop SQLite's locks on it. So both are opened before
SQLite opens the file and closed after it has closed it. Only read, never written. Not here: what the bytes mean.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pando.errors import CorruptionError, StorageError
from pando.types import is_page_size

_CHUNK_PAGES_BYTES = 1 << 20
_HEADER_BYTES = 100


class RawFile:
    """Descriptors of a database file and of its `-wal`."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._wal = os.open(path + "-wal", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"cannot open {path}: {error.strerror}") from error
        self.page_size = 0
        self.page_count = 0

    def read_header(self) -> bytes:
        """Read the first 100 bytes of the file; fewer when it is empty."""
        return os.pread(self._file, _HEADER_BYTES, 0)

    def learn_page_size(self) -> int:
        """Find the page size from the WAL, if there is one, or from the file; 0 when both are empty. Raises CorruptionError."""
        wal = os.pread(self._wal, 32, 0)
        if len(wal) == 32:
            size = int(struct.unpack_from(">I", wal, 8)[0])
        else:
            header = self.read_header()
            if len(header) < _HEADER_BYTES:
                return 0
            if not header.startswith(b"SQLite format 3\0"):
                raise CorruptionError(f"{self.path} is not a SQLite database; it begins with {header[:16]!r}")
            size = int(struct.unpack_from(">H", header, 16)[0])
            size = 65536 if size == 1 else size
        if not is_page_size(size):
            raise CorruptionError(f"{self.path} claims a page size of {size}")
        self.page_size = size
        return size

    def pread_wal(self, offset: int, size: int) -> bytes:
        """Read from the WAL."""
        try:
            return os.pread(self._wal, size, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}-wal: {error.strerror}") from error

    def read_page(self, pgno: int) -> bytes:
        """Read a page of the file as it is on disk, zeros past the end."""
        try:
            data = os.pread(self._file, self.page_size, (pgno - 1) * self.page_size)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
        return data if len(data) == self.page_size else data.ljust(self.page_size, b"\0")

    def read_pages(self, first: int) -> list[bytes]:
        """Read a run of whole pages from page `first` on; empty at the end."""
        size = self.page_size
        want = max(1, _CHUNK_PAGES_BYTES // size) * size
        try:
            data = os.pread(self._file, want, (first - 1) * size)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
        return [data[at : at + size] for at in range(0, len(data) - size + 1, size)]

    @property
    def file_size_bytes(self) -> int:
        """Size of the database file."""
        return os.fstat(self._file).st_size

    @property
    def wal_size_bytes(self) -> int:
        """Size of the WAL file, which keeps its length when it begins anew."""
        return os.fstat(self._wal).st_size

    def follow_wal(self) -> None:
        """Open the WAL anew if SQLite made another file of that name. Harmless: SQLite holds no locks on the WAL itself."""
        try:
            wal = os.open(self.path + "-wal", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"cannot open {self.path}-wal: {error.strerror}") from error
        os.close(self._wal)
        self._wal = wal

    def is_current(self) -> bool:
        """Whether the names still stand for what is open (nobody put other files there)."""
        try:
            here, there = os.fstat(self._file), Path(self.path).stat()
            wal_here, wal_there = os.fstat(self._wal), Path(self.path + "-wal").stat()
        except OSError:
            return False
        return (here.st_ino, wal_here.st_ino) == (there.st_ino, wal_there.st_ino)

    def close(self) -> None:
        """Close both; only after SQLite has closed the file."""
        os.close(self._file)
        os.close(self._wal)
