"""A toy log and a toy database for the simulator: entries with real positions, bytes and checksums, but no pages.

The state of a toy database is its checksum; an entry changes it by hashing. So two databases with equal positions are
equal, and a wrong entry anywhere shows at once. Not here: files, time.
"""

from __future__ import annotations

import hashlib
import struct

from pando.clock import Random
from pando.errors import CorruptionError, invariant
from pando.replication.entry import Entry
from pando.types import EMPTY_CHECKSUM, NO_POSITION, TXID, Checksum, Epoch, Position

_HEAD = struct.Struct(">QQQQQq")
_DIGEST_SIZE = 8


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=_DIGEST_SIZE).digest()


def toy_checksum(data: bytes) -> Checksum:
    """Give 64 bits with the highest one set, as real checksums have it."""
    return Checksum(int.from_bytes(_digest(data), "big") | EMPTY_CHECKSUM)


def apply_toy(state: Checksum, payload: bytes) -> Checksum:
    """Give the state after a payload."""
    return toy_checksum(state.to_bytes(8, "big") + payload)


def make_entry(after: Position, *, epoch: Epoch, commits: int, timestamp_ms: int, payload: bytes) -> Entry:
    """Make the entry that follows a position."""
    post = apply_toy(after.checksum, payload)
    low, high = TXID(after.txid + 1), TXID(after.txid + commits)
    head = _HEAD.pack(epoch, low, high, after.checksum, post, timestamp_ms)
    return describe_toy(head + payload + _digest(head, payload))


def describe_toy(data: bytes) -> Entry:
    """Read the envelope of a toy entry; raises CorruptionError."""
    if len(data) < _HEAD.size + _DIGEST_SIZE or _digest(data[:-_DIGEST_SIZE]) != data[-_DIGEST_SIZE:]:
        raise CorruptionError("toy entry with a wrong digest")
    epoch, low, high, pre, post, timestamp_ms = _HEAD.unpack_from(data)
    return Entry(
        epoch=Epoch(epoch),
        min_txid=TXID(low),
        max_txid=TXID(high),
        pre_checksum=Checksum(pre),
        post_checksum=Checksum(post),
        timestamp_ms=timestamp_ms,
        data=data,
    )


def encode_snapshot(position: Position, padding: bytes) -> bytes:
    """Make the bytes of a toy snapshot."""
    head = _HEAD.pack(position.epoch, position.txid, position.txid, 0, position.checksum, 0)
    return head + padding + _digest(head, padding)


def decode_snapshot(data: bytes) -> Position:
    """Read a toy snapshot; raises CorruptionError."""
    entry = describe_toy(data)
    return entry.position


class ToyLog:
    """The log of one database on one node: a base, entries, and how many of them are fsynced."""

    def __init__(self, base: Position = NO_POSITION) -> None:
        self.base = base
        self.entries: list[Entry] = []
        self.synced = 0

    @property
    def last(self) -> Position:
        """Position after the last entry."""
        return self.entries[-1].position if self.entries else self.base

    @property
    def durable(self) -> Position:
        """Position after the last fsynced entry."""
        return self.entries[self.synced - 1].position if self.synced else self.base

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(len(entry.data) for entry in self.entries)

    def append(self, entry: Entry) -> None:
        """Add an entry that follows the last one."""
        invariant(entry.follows(self.last), "append does not follow", entry=entry.position, last=self.last)
        self.entries.append(entry)

    def sync(self) -> list[Entry]:
        """Make everything durable; gives what became so."""
        fresh = self.entries[self.synced :]
        self.synced = len(self.entries)
        return fresh

    def fail(self) -> None:
        """An append or sync failed: back to what is durable."""
        del self.entries[self.synced :]

    def crash(self, random: Random) -> None:
        """Lose some of what was not fsynced; what survived is durable from now on."""
        del self.entries[random.randint(self.synced, len(self.entries)) :]
        self.synced = len(self.entries)

    def positions(self) -> list[Position]:
        """All positions that the log holds, in order."""
        return [self.base, *(entry.position for entry in self.entries)]

    def holds(self, position: Position) -> bool:
        """Tell whether the log knows exactly this position."""
        return position == self.base or any(entry.position == position for entry in self.entries)

    def read(self, after: TXID, *, max_bytes: int) -> list[Entry]:
        """Give durable entries after a commit: at least one if there is one."""
        found: list[Entry] = []
        size = 0
        for entry in self.entries[: self.synced]:
            if entry.min_txid > after and (not found or size + len(entry.data) <= max_bytes):
                found.append(entry)
                size += len(entry.data)
            elif found:
                break
        return found

    def drop_before(self, txid: TXID) -> None:
        """Retention: forget durable entries up to a commit."""
        while self.synced and self.entries[0].max_txid <= txid:
            self.base = self.entries.pop(0).position
            self.synced -= 1

    def reset(self, base: Position) -> None:
        """Start anew."""
        self.base, self.entries, self.synced = base, [], 0
