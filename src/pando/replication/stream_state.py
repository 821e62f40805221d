"""State of one database on one link, as the upstream keeps it, and its flow window.

    AHEAD        the replica's position is past our head and we are not the primary: wait until we get there
    LOG          read from the log on disk; until `is_verified` it is not known to hold the replica's position
    LIVE         everything durable is sent; a new entry goes out at once, from memory
    SNAP_QUEUED  a snapshot is needed, but too many are under way on this link
    SNAP_MAKING  the shell makes a snapshot
    SNAP_SENDING its bytes are being read and sent
    SNAP_INSTALL all sent; entries follow when the replica says that it has it
    DONE         until_head was asked for and reached

Not here: decisions (see `stream`).
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from pando.errors import invariant
from pando.types import NO_POSITION, TXID, Position


class Mode(Enum):
    """What the upstream is doing about a database."""

    AHEAD = auto()
    LOG = auto()
    LIVE = auto()
    SNAP_QUEUED = auto()
    SNAP_MAKING = auto()
    SNAP_SENDING = auto()
    SNAP_INSTALL = auto()
    DONE = auto()


SNAPSHOT_MODES = frozenset({Mode.SNAP_QUEUED, Mode.SNAP_MAKING, Mode.SNAP_SENDING, Mode.SNAP_INSTALL})
SNAPSHOT_SLOT_MODES = SNAPSHOT_MODES - {Mode.SNAP_QUEUED}


class Window:
    """Bytes sent and not yet confirmed. A mark is what confirms them: a TXID, or an offset in a snapshot."""

    __slots__ = ("_sent", "bytes")

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int]] = deque()
        self.bytes = 0

    def add(self, mark: int, size: int) -> None:
        """Count bytes that were sent."""
        self._sent.append((mark, size))
        self.bytes += size

    def confirm(self, mark: int) -> int:
        """Forget what is confirmed by a mark; give its size."""
        freed = 0
        sent = self._sent
        while sent and sent[0][0] <= mark:
            freed += sent.popleft()[1]
        self.bytes -= freed
        return freed

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be confirmed."""
        return not self._sent

    def clear(self) -> int:
        """Forget everything; give its size."""
        freed, self.bytes = self.bytes, 0
        self._sent.clear()
        return freed

    def check(self) -> None:
        """Compare the sum with its parts."""
        invariant(self.bytes == sum(size for _, size in self._sent), "window does not add up", bytes=self.bytes)
        marks = [mark for mark, _ in self._sent]
        invariant(marks == sorted(set(marks)), "marks are not in order", marks=marks)


class StreamState:
    """One database on one link. Plain state; see `stream.Stream`."""

    __slots__ = (
        "acked",
        "applied",
        "applied_claim",
        "chunks",
        "cursor",
        "database",
        "entries",
        "head_moved",
        "is_divergent",
        "is_fresh",
        "is_told_caught_up",
        "is_verified",
        "mode",
        "number",
        "offset",
        "queued",
        "reading",
        "reason",
        "reserved",
        "sent_txid",
        "snapshot_checksum",
        "snapshot_position",
        "snapshot_size",
        "target",
        "unsent_bytes",
    )

    def __init__(self, database: str, number: int, cursor: Position, target: TXID) -> None:
        self.database = database
        self.number = number
        self.mode = Mode.LOG
        self.cursor = cursor
        """Position after the last entry that was sent; before that, what the replica asked from."""
        self.target = target
        """Head when the replica asked: `until_head` is reached there."""
        self.sent_txid = cursor.txid
        """The highest TXID that the replica can have from this stream."""
        self.is_verified = False
        self.is_fresh = False
        self.is_told_caught_up = False
        self.is_divergent = False
        self.acked = TXID(0)
        self.applied = TXID(0)
        self.applied_claim = TXID(0)
        """What its readers see as it says; counts once its position is found in our history."""
        self.entries = Window()
        self.chunks = Window()
        self.reserved = 0
        self.reading = False
        self.head_moved = False
        """Whether the head moved since the read that is under way was asked for."""
        self.queued = False
        self.reason = ""
        self.offset = 0
        self.snapshot_position = NO_POSITION
        self.snapshot_size = 0
        self.snapshot_checksum = 0
        self.unsent_bytes = 0

    @property
    def in_flight_bytes(self) -> int:
        """Bytes sent and not confirmed, and bytes asked of the shell and not sent."""
        return self.entries.bytes + self.chunks.bytes + self.reserved

    @property
    def hold(self) -> TXID | None:
        """The replica needs the log after this commit; None while it waits for a snapshot to be made."""
        if self.mode in (Mode.SNAP_QUEUED, Mode.SNAP_MAKING):
            return None
        if self.mode in SNAPSHOT_MODES:
            return self.snapshot_position.txid
        return self.acked if self.is_verified else self.cursor.txid
