"""A few bytes that the processes of a node share through a file that is mapped into each, with one lock for writers.

The file is no data: it is made anew if it is not there or not of the size that is asked for, and never fsynced. Not
here: what the bytes mean (`pando.sql.write_ring`, `pando.records.guarding.counts`), nor positions, which only one
process writes (`pando.store.positions`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

from pando.errors import StorageError

_LOCK_TRIES: Final = 50


class SharedMemory:
    """Zeros at first. `bytes` is what is shared; without a file it is of this process alone."""

    def __init__(self, size_bytes: int) -> None:
        """By default nobody else has it; see `of_file`."""
        self.bytes: bytearray | mmap.mmap = bytearray(size_bytes)
        self._descriptor = -1

    @classmethod
    def of_file(cls, path: Path, size_bytes: int, what: str) -> SharedMemory:
        """Map a file, which is made if it is not there; `what` names it in errors. Raises StorageError."""
        memory = cls(0)
        try:
            memory._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(memory._descriptor, fcntl.LOCK_EX)  # somebody else may be making it; that takes no time
            try:
                memory.bytes = _map(memory._descriptor, size_bytes)
            finally:
                memory.unlock()
        except OSError as error:
            memory.close()
            raise StorageError(f"cannot map {what} {path}: {error.strerror}") from error
        return memory

    def try_lock(self) -> bool:
        """Keep other writers out until `unlock`; False if they hold the lock all the time."""
        if self._descriptor < 0:
            return True
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.sched_yield()
            else:
                return True
        return False

    def unlock(self) -> None:
        """Let other writers in."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file; nothing may still look into `bytes`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if isinstance(self.bytes, mmap.mmap):
            self.bytes.close()


def _map(descriptor: int, size_bytes: int) -> mmap.mmap:
    if os.fstat(descriptor).st_size != size_bytes:
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, size_bytes)
    return mmap.mmap(descriptor, size_bytes)
