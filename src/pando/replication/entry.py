"""One log entry as the replication decisions see it: where it stands in the history, and its bytes.

`data` is the entry as the log segment holds it (envelope and payload) and is not looked into here. Whoever decodes
entries passes in a `Describe` function. Not here: the byte format (see `pando.store.commitlog`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pando.types import TXID, Checksum, Epoch, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Takes a database from `(min_txid - 1, pre_checksum)` to `(epoch, max_txid, post_checksum)`."""

    epoch: Epoch
    min_txid: TXID
    max_txid: TXID
    pre_checksum: Checksum
    post_checksum: Checksum
    timestamp_ms: int
    data: bytes

    @property
    def position(self) -> Position:
        """The position after this entry."""
        return Position(epoch=self.epoch, txid=self.max_txid, checksum=self.post_checksum)

    def follows(self, position: Position) -> bool:
        """Tell whether this entry is the next one at a position: no gap, same bytes, and no older epoch."""
        return (
            self.min_txid == position.txid + 1
            and self.pre_checksum == position.checksum
            and self.epoch >= position.epoch
        )


Describe = Callable[[bytes], Entry]
"""Reads the envelope of an entry's bytes; raises CorruptionError. It must not keep or change the bytes."""
