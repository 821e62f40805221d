"""Uploads of one request until they are stored: short ones in memory, the others in one temporary file.

The temporary file has no name: whatever happens to the process, nothing of it is left. What is in memory of one
request is bounded together, so that many short files are no way around it.
Not here: taking bodies apart (`pando.api.records_forms`), storing (`pando.records.files.filing`).
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

from pando import limits
from pando.errors import Overloaded, StorageError, invariant
from pando.records.fields.values import NewFile
from pando.records.files.content import HEAD_BYTES
from pando.records.files.storage import CHUNK_BYTES, Body
from pando.records.workers import Workers
from pando.store.files import RealFileSystem, make_directories, translate

MEMORY_BYTES_MAX: Final = limits.MIB
"""What is kept in memory of the files of one request."""
FILE_IN_MEMORY_BYTES_MAX: Final = 64 * limits.KIB
"""A longer file goes to the disk."""
SPOOLS_MAX: Final = 64
"""Requests of one web process that have uploads on the disk at once; each holds a descriptor."""
THREADS: Final = 2
WAITING_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came in. `file` says what it is; `content` is all of it, or pieces that can be asked for again."""

    file: NewFile
    whole: bytes | None
    spool: Spool | None = None
    start: int = 0

    def content(self) -> Body:
        """Give the bytes. Those on the disk are there until the spool is closed."""
        if self.spool is None:
            return self.whole or b""
        return self.spool.read(self.start, self.start + self.file.size)


Uploads = Mapping[str, Upload]
"""By the name under which they are to be stored."""
NO_UPLOADS: Final[Uploads] = {}


class Spools:
    """The temporary files of one process. `directory` is made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._workers = Workers("uploads", threads=THREADS, waiting_max=WAITING_MAX)
        self._open = 0

    def open(self) -> Spool:
        """Give the spool of one request; nothing is on the disk yet."""
        return Spool(self)

    @property
    def workers(self) -> Workers:
        """Threads for its file calls."""
        return self._workers

    def take(self) -> None:
        """Take note of one more temporary file. Raises Overloaded."""
        if self._open >= SPOOLS_MAX:
            raise Overloaded(f"{self._open} uploads are under way; try again later")
        self._open += 1

    def give_back(self) -> None:
        """Take note that one is gone."""
        self._open -= 1

    def make(self) -> IO[bytes]:
        """Make a temporary file without a name. Blocks. Raises StorageError."""
        try:
            make_directories(RealFileSystem(), self._directory)
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)
        except OSError as error:
            raise translate(error, "making a temporary file in", self._directory) from error

    def close(self) -> None:
        """Let the threads go."""
        self._workers.close()


class Spool:
    """What came with one request. Use it as a context: at its end everything is gone."""

    def __init__(self, spools: Spools) -> None:
        self._spools = spools
        self._file: IO[bytes] | None = None
        self._end = 0
        self._is_taken = False
        self._is_closed = False
        self._lock = threading.Lock()
        """Held by the thread that uses the file: nobody closes it under its hands."""
        self.in_memory = 0
        """Bytes of files that are in memory now."""

    async def __aenter__(self) -> Spool:
        """Begin."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Forget all of it."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
        if self._is_taken:
            self._spools.give_back()

    def receive(self) -> Receiving:
        """Begin to take a file. One at a time."""
        return Receiving(self)

    @property
    def end(self) -> int:
        """How long the temporary file is."""
        return self._end

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Write at the end. Raises StorageError, StorageFull, Overloaded."""
        if not self._is_taken:
            self._spools.take()
            self._is_taken = True
        await self._spools.workers.run(self._append, b"".join(pieces))

    def _append(self, data: bytes) -> None:
        with self._lock:
            invariant(not self._is_closed, "an upload is written while its request goes on")
            if self._file is None:
                self._file = self._spools.make()
            try:
                self._file.seek(self._end)
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
            except OSError as error:
                raise _translated(error) from error
            self._end += len(data)

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Give a part of the temporary file in pieces."""
        while start < end:
            piece = await self._spools.workers.run(self._read, start, min(CHUNK_BYTES, end - start))
            start += len(piece)
            yield piece

    def _read(self, start: int, size: int) -> bytes:
        with self._lock:
            invariant(self._file is not None and not self._is_closed, "an upload is read while its request goes on")
            file = cast("IO[bytes]", self._file)
            try:
                file.seek(start)
                found = file.read(size)
            except OSError as error:
                raise _translated(error) from error
        if not found:
            raise StorageError("a temporary file of an upload ends too early")
        return found


@dataclass(slots=True)
class Receiving:
    """One file as it comes in."""

    spool: Spool
    size: int = 0
    start: int = -1
    """Where it begins in the temporary file; -1: it is in memory."""
    head: bytes = b""
    """Its first bytes, up to HEAD_BYTES."""
    _pieces: list[bytes] = field(default_factory=list)
    _held: int = 0

    async def add(self, data: bytes) -> None:
        """Take the next bytes. Raises StorageError, StorageFull, Overloaded."""
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        self.size += len(data)
        self._pieces.append(data)
        self._held += len(data)
        if self.start < 0:
            if self.size <= FILE_IN_MEMORY_BYTES_MAX and self.spool.in_memory + self.size <= MEMORY_BYTES_MAX:
                return
            self.start = self.spool.end
        if self._held >= CHUNK_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        await self.spool.append(self._pieces)
        self._pieces, self._held = [], 0

    async def finish(self) -> None:
        """Take note that all of it is there."""
        if self.start < 0:
            self.spool.in_memory += self.size
        elif self._held:
            await self._flush()

    def as_upload(self, file: NewFile) -> Upload:
        """Give what was received."""
        if self.start < 0:
            return Upload(file, b"".join(self._pieces))
        return Upload(file, None, self.spool, self.start)


def _translated(error: OSError) -> StorageError:
    return translate(error, "using a temporary file of", Path("an upload"))
