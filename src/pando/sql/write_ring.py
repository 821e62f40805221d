"""What web processes of a node tell each other about writes that the node does not show yet: a ring in shared memory.

    header, 64 bytes    magic, number of the newest entry, salt of 16 bytes, 4 words of 0
    entry, 64 bytes     its number, who wrote (16 bytes), which database, epoch, txid, monotonic time in ms, 0

All are 8-byte native integers; the file never leaves the machine. The number of an entry is written last, and the
newest number after it; who reads takes an entry only if its number was right before and after. Who falls behind by a
whole ring misses the oldest: as with any bound, those callers may then read what was before their write. Not here: what
follows from an entry (`pando.sql.own_writes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from pando.clock import random_bytes
from pando.shared_memory import SharedMemory

ENTRIES: Final = 4096
_WORDS: Final = 8
_MAGIC: Final = 0x31474E52_4F444E50
_NEWEST: Final = 1
_SALT: Final = slice(16, 32)
SIZE_BYTES: Final = (ENTRIES + 1) * _WORDS * 8
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A write by somebody to some database, both as digests."""

    who: int
    database: int
    place: tuple[int, int]
    at_ms: int


class WriteRing:
    """The ring of one node, in a file with others; or, without one, of this process alone."""

    def __init__(self, memory: SharedMemory | None = None) -> None:
        """By default the ring is of this process alone."""
        self._memory = memory or SharedMemory(SIZE_BYTES)
        self._words = memoryview(self._memory.bytes).cast("Q")
        if self._words[0] != _MAGIC:
            self._memory.bytes[_SALT] = random_bytes(16)
            self._words[0] = _MAGIC
        self._salt = bytes(self._memory.bytes[_SALT])

    @classmethod
    def shared(cls, path: Path) -> WriteRing:
        """Map the ring of a node, which is made if it is not there. Raises StorageError."""
        return cls(SharedMemory.of_file(path, SIZE_BYTES, "the ring of writes"))

    @property
    def newest(self) -> int:
        """Number of the newest entry; 0 before the first."""
        return self._words[_NEWEST]

    def who(self, caller: bytes, database: str) -> int:
        """Give the digest of a caller in a database: no token can be told from it."""
        digest = blake2b(caller + b"\0" + database.encode(), digest_size=16, key=self._salt).digest()
        return int.from_bytes(digest, "big")

    def which(self, database: str) -> int:
        """Give the digest of a database."""
        return int.from_bytes(blake2b(database.encode(), digest_size=8, key=self._salt).digest(), "big")

    def tell(self, entry: Entry) -> None:
        """Add an entry. While others hold the lock all the time none is added: at worst a process reads older data."""
        if not self._memory.try_lock():
            return
        try:
            words = self._words
            number = words[_NEWEST] + 1
            at = (1 + number % ENTRIES) * _WORDS
            words[at] = 0
            words[at + 1], words[at + 2] = entry.who >> 64, entry.who & _MASK
            words[at + 3], words[at + 4], words[at + 5] = entry.database, *entry.place
            words[at + 6] = entry.at_ms
            words[at] = number
            words[_NEWEST] = number
        finally:
            self._memory.unlock()

    def after(self, number: int) -> Iterator[Entry]:
        """Give the entries after this one that are still there, in order."""
        words = self._words
        newest = words[_NEWEST]
        for found in range(max(number, newest - ENTRIES) + 1, newest + 1):
            at = (1 + found % ENTRIES) * _WORDS
            if words[at] != found:
                continue
            who = words[at + 1] << 64 | words[at + 2]
            entry = Entry(who, words[at + 3], (words[at + 4], words[at + 5]), words[at + 6])
            if words[at] == found:
                yield entry

    def close(self) -> None:
        """Let go of the file."""
        self._words.release()
        self._memory.close()
