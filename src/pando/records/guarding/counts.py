"""How often something was done within its window: a table of fixed size, shared by the web processes of a node.

    header, 16 bytes    salt: chooses the places, so that nobody can aim at the counter of another
    slot, 24 bytes      key (0: free), begin of the window in ms since 1970, how often, length of the window in seconds

A key has one of the slots of one row; when all of them count something that still lasts, the window that began first is
forgotten. So a flood from very many addresses can make the table forget, but never grow. The file is no data: it is
made anew if it is not there, or not of this size. Not here: what is counted (`rates`), what follows (`guard`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

from pando.clock import random_bytes
from pando.shared_memory import SharedMemory

ROWS: Final = 8192
SLOTS_PER_ROW: Final = 8
_SALT_BYTES: Final = 16
_SLOT: Final = struct.Struct("<QqII")
_ROW_BYTES: Final = SLOTS_PER_ROW * _SLOT.size
SIZE_BYTES: Final = _SALT_BYTES + ROWS * _ROW_BYTES
"""About 1.6 MB, of which only what is used is ever in memory."""
_COUNT_MAX: Final = 0xFFFF_FFFF


class CountTable:
    """Counts in this process alone, or in a file with others."""

    def __init__(self, memory: SharedMemory | None = None) -> None:
        """By default the table is of this process alone."""
        self._shared = memory or SharedMemory(SIZE_BYTES)
        self._memory = self._shared.bytes
        if not any(self._memory[:_SALT_BYTES]):
            self._memory[:_SALT_BYTES] = random_bytes(_SALT_BYTES)
        self._salt = bytes(self._memory[:_SALT_BYTES])

    @classmethod
    def shared(cls, path: Path) -> CountTable:
        """Map the table of a node, which is made if it is not there. Raises StorageError."""
        return cls(SharedMemory.of_file(path, SIZE_BYTES, "the counters"))

    def take(self, what: bytes, most: int, span_s: int, now_ms: int) -> bool:
        """Count one more; False, and nothing is counted, if `most` were counted in the window that lasts."""
        digest = blake2b(what, digest_size=16, key=self._salt).digest()
        key = int.from_bytes(digest[:8], "little") or 1
        row = _SALT_BYTES + int.from_bytes(digest[8:], "little") % ROWS * _ROW_BYTES
        with self._locked():
            place, begin, count = self._find(row, key, span_s, now_ms)
            if count >= most:
                return False
            _SLOT.pack_into(self._memory, place, key, begin, min(count + 1, _COUNT_MAX), span_s)
            return True

    def _find(self, row: int, key: int, span_s: int, now_ms: int) -> tuple[int, int, int]:
        """Give the slot of a key, or the one that it gets, and what was counted there."""
        best, best_rank = row, (3, 0)
        for place in range(row, row + _ROW_BYTES, _SLOT.size):
            known, begin, count, span = _SLOT.unpack_from(self._memory, place)
            lasts = 0 <= now_ms - begin < span * 1000
            if known == key:
                lasts = 0 <= now_ms - begin < span_s * 1000
                return (place, begin, count) if lasts else (place, now_ms, 0)
            rank = (0, 0) if not known else (1, begin) if not lasts else (2, begin)
            if rank < best_rank:
                best, best_rank = place, rank
        return best, now_ms, 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the other processes out; who cannot soon goes on without: at worst one try is not counted."""
        is_locked = self._shared.try_lock()
        try:
            yield
        finally:
            if is_locked:
                self._shared.unlock()

    def close(self) -> None:
        """Let go of the file."""
        self._shared.close()
