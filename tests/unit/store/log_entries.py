"""Entries for tests of the log: a chain in which each follows the one before."""

import random
from collections.abc import Iterator

from pando.store.commitlog import CommitLog, LogOptions
from pando.store.segments import LogEntry
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

SMALL = LogOptions(segment_size_bytes=1000)
ALL = 1 << 30


def entry_after(position: Position, *, size: int = 100, commits: int = 1, epoch: int = 1, seed: int = 0) -> LogEntry:
    rng = random.Random(f"{position}/{seed}/{size}")
    return LogEntry(
        epoch=Epoch(max(epoch, position.epoch)),
        min_txid=TXID(position.txid + 1),
        max_txid=TXID(position.txid + commits),
        pre_checksum=position.checksum,
        post_checksum=Checksum(rng.getrandbits(63) | 1 << 63),
        timestamp_ms=1_700_000_000_000 + position.txid,
        tables=("cities", "größe")[: position.txid % 3],
        payload=rng.randbytes(size),
    )


def chain(count: int, *, after: Position = NO_POSITION, size: int = 100, seed: int = 0) -> Iterator[LogEntry]:
    for _ in range(count):
        entry = entry_after(after, size=size, seed=seed)
        after = entry.position
        yield entry


def fill(log: CommitLog, count: int, *, size: int = 100, seed: int = 0) -> list[LogEntry]:
    """Append entries and sync once."""
    entries = list(chain(count, after=log.last, size=size, seed=seed))
    for entry in entries:
        log.append(entry)
    log.sync()
    return entries
