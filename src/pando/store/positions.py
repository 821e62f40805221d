"""Positions of open databases in shared memory: who writes publishes, everybody on the node reads without asking.

The file (8-byte native integers; it never leaves the machine and is made anew at each start of the store):

    header, 64 bytes     magic, number of slots, boot (one more with each start of a store), 5 x zero
    slot, 64 bytes each  generation, about_txid, visible_txid, epoch, checksum, head_txid, head_wall_ms, visible_wall_ms

Each field is one aligned 8-byte store, so it is never seen half written. Order makes pairs safe: `about` is raised before a commit
can be seen and `visible` after; with a new epoch the epoch is written first, so a reader never pairs an old epoch with
a TXID of the new one. Generation 0 means that the slot is free; a reader that knows another generation than the slot's asks again. The file is
reused in place, since processes that live on have it mapped. Not here: who gets which slot (`pando.store.catalog`).
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from pando.errors import CorruptionError, StorageError, invariant
from pando.types import TXID, Checksum, Epoch

_MAGIC = 0x31534F50_4F444E50  # "PNDOPOS1", to tell a file of another format
_WORDS = 8
_SLOT_BYTES = 64
_GENERATION, _ABOUT, _VISIBLE, _EPOCH, _CHECKSUM, _HEAD, _HEAD_MS, _VISIBLE_MS = range(_WORDS)
SLOTS_MAX = 1 << 20


class PositionTable:
    """The mapped table. Each slot has one writing process at a time."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")

    @classmethod
    def create(cls, path: Path, slots: int) -> PositionTable:
        """Make an empty table, in the file that is there if it has the right size. Raises StorageError."""
        invariant(0 < slots <= SLOTS_MAX, "the number of slots is bounded", slots=slots)
        size = (slots + 1) * _SLOT_BYTES
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size != size:
                    os.ftruncate(descriptor, 0)
                    os.ftruncate(descriptor, size)
                table = cls(mmap.mmap(descriptor, size))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot make the table of positions {path}: {error.strerror}") from error
        words = table._words
        boot = words[2] + 1 if words[0] == _MAGIC else 1
        for slot in range(slots):
            words[(slot + 1) * _WORDS] = 0
        words[0], words[1], words[2] = _MAGIC, slots, boot
        return table

    @classmethod
    def attach(cls, path: Path) -> PositionTable:
        """Map the table of a running store. Raises StorageError, CorruptionError."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                size = os.fstat(descriptor).st_size
                if size < 2 * _SLOT_BYTES or size > (SLOTS_MAX + 1) * _SLOT_BYTES:
                    raise CorruptionError(f"{path} is no table of positions: it has {size} bytes")
                table = cls(mmap.mmap(descriptor, size))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot map the table of positions {path}: {error.strerror}") from error
        if table._words[0] != _MAGIC or (table._words[1] + 1) * _SLOT_BYTES != size:
            table.close()
            raise CorruptionError(f"{path} is no table of positions of this version")
        return table

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self._words[1]

    @property
    def boot(self) -> int:
        """How often a store has started with this file."""
        return self._words[2]

    # -- writing --

    def claim(self, slot: int, generation: int) -> None:
        """Take a free slot for a database, or give a taken one a new generation; all counters begin at 0."""
        at = self._at(slot)
        words = self._words
        words[at] = 0
        for word in range(1, _WORDS):
            words[at + word] = 0
        words[at] = generation

    def renew(self, slot: int, generation: int) -> None:
        """Give a slot a new generation and keep its counters: the file was replaced, readers must open it again."""
        self._words[self._at(slot)] = generation

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._words[self._at(slot)] = 0

    def publish_about(self, slot: int, txid: int) -> None:
        """This commit may be seen from now on."""
        self._words[(slot + 1) * _WORDS + _ABOUT] = txid

    def publish_visible(self, slot: int, epoch: Epoch, txid: TXID, checksum: Checksum) -> None:
        """Readers see this position from now on."""
        at = (slot + 1) * _WORDS
        words = self._words
        words[at + _EPOCH] = epoch
        words[at + _CHECKSUM] = checksum
        words[at + _VISIBLE] = txid

    def publish_head(self, slot: int, txid: int, wall_ms: int) -> None:
        """The newest commit that the node has heard of, and when it was last known to be the newest."""
        at = (slot + 1) * _WORDS
        self._words[at + _HEAD] = txid
        self._words[at + _HEAD_MS] = wall_ms

    # -- reading --

    def generation(self, slot: int) -> int:
        """0: nobody has the slot."""
        return self._words[(slot + 1) * _WORDS]

    def about(self, slot: int) -> tuple[Epoch, TXID]:
        """The newest commit that a snapshot taken before this call may show."""
        at = (slot + 1) * _WORDS
        return Epoch(self._words[at + _EPOCH]), TXID(self._words[at + _ABOUT])

    def visible(self, slot: int) -> tuple[Epoch, TXID]:
        """The newest commit that a snapshot taken after this call certainly shows."""
        at = (slot + 1) * _WORDS
        txid = self._words[at + _VISIBLE]
        return Epoch(self._words[at + _EPOCH]), TXID(txid)

    def checksum(self, slot: int) -> Checksum:
        """Rolling checksum of the visible position."""
        return Checksum(self._words[(slot + 1) * _WORDS + _CHECKSUM])

    def head(self, slot: int) -> tuple[TXID, int]:
        """The newest commit heard of, and the wall time in ms when that was known."""
        at = (slot + 1) * _WORDS
        return TXID(self._words[at + _HEAD]), self._words[at + _HEAD_MS]

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._memory.close()

    def _at(self, slot: int) -> int:
        invariant(0 <= slot < self.slots, "a slot of the table", slot=slot)
        return (slot + 1) * _WORDS
