"""Positions of open databases in shared memory: who writes publishes, everybody on the node reads without asking.

The file (8-byte native integers; it never leaves the machine and is made anew at each start of the store):

    header, 64 bytes     magic, number of slots, boot (one more with each start of a store), 5 x zero
    slot, 1 KiB each     generation, about_txid, visible_txid, epochs, checksum, head_txid, head_wall_ms,
                         any_txid, 120 x table_txid

Each field is one aligned 8-byte store, so it is never seen half written. `about` is raised before a commit can be seen
and `visible` after. `epochs` holds the epoch of `about` in its upper half and that of `visible` in its lower one. A new
history may go on at a lower TXID, so while an epoch changes its half says CHANGING, and a reader takes a TXID only if
its epoch was the same before and after: it never pairs a TXID with the epoch of another history, in either direction.

`any_txid` is the last commit that may have changed any table, `table_txid` the last that changed a table with this hash
of its name. Both are raised before `about`, so that an answer made of a few tables stays right until their words move.

Generation 0 means that the slot is free; a reader that knows another generation than the slot's asks again. The file is
reused in place, since processes that live on have it mapped. Stores become visible in the order in which they are made
on x86-64; elsewhere only the hundreds of instructions that the interpreter runs between two of them keep them apart.
Not here: who gets which slot (`pando.store.catalog`).
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from pando.errors import CorruptionError, NotReady, StorageError, invariant
from pando.types import TXID, Checksum, Epoch, Position

_MAGIC = 0x33534F50_4F444E50  # "PNDOPOS3", to tell a file of another format
_WORDS = 128
_SLOT_BYTES = _WORDS * 8
_GENERATION, _ABOUT, _VISIBLE, _EPOCHS, _CHECKSUM, _HEAD, _HEAD_MS, _ANY, _TABLES = range(9)
_UNKNOWN = (1 << 64) - 1
"""In `any_txid`: nothing is known of what changed when."""
_LOW = 0xFFFF_FFFF
_CHANGING = _LOW
_READ_TRIES = 1000
SLOTS_MAX = 1 << 20
EPOCH_MAX = _CHANGING - 1
"""Highest epoch that fits half a word."""


class PositionTable:
    """The mapped table. Each slot has one writing process at a time. Publishing and reading take 0.1 to 0.3 us."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")

    @classmethod
    def create(cls, path: Path, slots: int) -> PositionTable:
        """Make an empty table, in the file that is there if it has the right size. Raises StorageError."""
        invariant(0 < slots <= SLOTS_MAX, "the number of slots is bounded", slots=slots)
        size = (slots + 1) * _SLOT_BYTES
        try:
            table = cls(_map_new(path, size))
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
                if size % _SLOT_BYTES or not 2 * _SLOT_BYTES <= size <= (SLOTS_MAX + 1) * _SLOT_BYTES:
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
        words[at + _ANY] = _UNKNOWN
        for word in range(1, _WORDS):
            if word != _ANY:
                words[at + word] = 0
        words[at] = generation

    def renew(self, slot: int, generation: int) -> None:
        """Give a slot a new generation and keep its counters: the file was replaced, readers must open it again."""
        self._words[self._at(slot)] = generation

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._words[self._at(slot)] = 0

    def publish_tables(self, slot: int, txid: int, tables: Iterable[str] = ()) -> None:
        """Say before `publish_about` which tables this commit changes; none, or "*" among them: any table."""
        at = (slot + 1) * _WORDS
        words = self._words
        is_known = False
        for table in tables:
            if table == "*":
                is_known = False
                break
            is_known = True
            words[at + table_word(table)] = txid
        if not is_known:
            words[at + _ANY] = txid

    def publish_about(self, slot: int, txid: int, epoch: int | None = None) -> None:
        """This commit may be seen from now on. `epoch` is needed with the first commit of a new one."""
        at = (slot + 1) * _WORDS
        words = self._words
        if epoch is not None and epoch != words[at + _EPOCHS] >> 32:
            self._change_about(at, epoch, txid)
        else:
            words[at + _ABOUT] = txid

    def publish_visible(self, slot: int, epoch: Epoch, txid: TXID, checksum: Checksum) -> None:
        """Readers see this position from now on. With an epoch of its own `about` goes along."""
        at = (slot + 1) * _WORDS
        words = self._words
        epochs = words[at + _EPOCHS]
        if epochs & _LOW != epoch:
            if epochs >> 32 != epoch:
                self._change_about(at, epoch, txid)
            words[at + _EPOCHS] = epoch << 32 | _CHANGING
        words[at + _CHECKSUM] = 0
        words[at + _VISIBLE] = txid
        words[at + _CHECKSUM] = checksum
        words[at + _EPOCHS] = words[at + _EPOCHS] & ~_LOW | epoch

    def publish_head(self, slot: int, txid: int, wall_ms: int) -> None:
        """The newest commit that the node has heard of, and when it was last known to be the newest."""
        at = (slot + 1) * _WORDS
        self._words[at + _HEAD] = txid
        self._words[at + _HEAD_MS] = wall_ms

    def _change_about(self, at: int, epoch: int, txid: int) -> None:
        invariant(0 <= epoch <= EPOCH_MAX, "an epoch fits half a word", epoch=epoch)
        words = self._words
        visible = words[at + _EPOCHS] & _LOW
        words[at + _EPOCHS] = _CHANGING << 32 | visible
        words[at + _ABOUT] = txid
        words[at + _EPOCHS] = epoch << 32 | visible

    # -- reading --

    def generation(self, slot: int) -> int:
        """0: nobody has the slot."""
        return self._words[(slot + 1) * _WORDS]

    def about(self, slot: int) -> tuple[Epoch, TXID]:
        """The newest commit that a snapshot taken before this call may show.

        Raises NotReady if the writer stopped in the middle of a change of epoch: nothing safe can be said then.
        """
        at = (slot + 1) * _WORDS
        words = self._words
        for _ in range(_READ_TRIES):
            epoch = words[at + _EPOCHS] >> 32
            txid = words[at + _ABOUT]
            if words[at + _EPOCHS] >> 32 == epoch != _CHANGING:
                return Epoch(epoch), TXID(txid)
        raise NotReady("the database is changing its history; try again")

    def visible(self, slot: int) -> tuple[Epoch, TXID]:
        """The newest commit that a snapshot taken after this call certainly shows; (0, 0): none is certain."""
        return self._visible(slot) or (Epoch(0), TXID(0))

    def position(self, slot: int) -> Position | None:
        """The visible position with its checksum; None while it is not known."""
        at = (slot + 1) * _WORDS
        for _ in range(_READ_TRIES):
            before = self._visible(slot)
            checksum = self._words[at + _CHECKSUM]
            if before is not None and checksum and self._visible(slot) == before:
                return Position(epoch=before[0], txid=before[1], checksum=Checksum(checksum))
        return None

    def checksum(self, slot: int) -> Checksum:
        """Rolling checksum of the visible position; 0 while it changes. See `position` for all three together."""
        return Checksum(self._words[(slot + 1) * _WORDS + _CHECKSUM])

    def head(self, slot: int) -> tuple[TXID, int]:
        """The newest commit heard of, and the wall time in ms when that was known."""
        at = (slot + 1) * _WORDS
        return TXID(self._words[at + _HEAD]), self._words[at + _HEAD_MS]

    def newest(self, slot: int, tables: Iterable[int]) -> int:
        """Give the last commit that may have changed one of these tables (words of `table_word`)."""
        at = (slot + 1) * _WORDS
        words = self._words
        newest = words[at + _ANY]
        for word in tables:
            txid = words[at + word]
            if txid > newest:
                newest = txid
        return newest

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._memory.close()

    def _visible(self, slot: int) -> tuple[Epoch, TXID] | None:
        at = (slot + 1) * _WORDS
        words = self._words
        for _ in range(_READ_TRIES):
            epoch = words[at + _EPOCHS] & _LOW
            txid = words[at + _VISIBLE]
            if words[at + _EPOCHS] & _LOW == epoch != _CHANGING:
                return Epoch(epoch), TXID(txid)
        return None

    def _at(self, slot: int) -> int:
        invariant(0 <= slot < self.slots, "a slot of the table", slot=slot)
        return (slot + 1) * _WORDS


def table_word(name: str) -> int:
    """Give the word of a slot that tells of a table; tables may share one, then each counts as changed with the other.

    The change feed has one of its own, since nearly every commit changes it.
    """
    if name == "_changes":
        return _WORDS - 1
    return _TABLES + zlib.crc32(name.lower().encode("utf-8", "surrogatepass")) % (_WORDS - _TABLES - 1)


def _map_new(path: Path, size: int) -> mmap.mmap:
    """Map the file; one of another size is replaced, for who has it mapped must not lose the ground under its feet."""
    if path.exists() and path.stat().st_size != size:
        path.unlink()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
