"""Which databases of a link get a snapshot now, and which wait: a few at once (Windows.snapshots).

A slot is held from the order to make a snapshot until the replica has installed it. Not here: how snapshots travel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from pando.errors import invariant
from pando.replication.stream_state import SNAPSHOT_SLOT_MODES, Mode, StreamState


class SnapshotSlots:
    """A queue in front of a few slots."""

    __slots__ = ("_failed", "_most", "_queue", "_used")

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: deque[StreamState] = deque()
        self._failed: list[StreamState] = []
        self._used = 0

    def want(self, stream: StreamState) -> None:
        """Queue a database."""
        stream.mode = Mode.SNAP_QUEUED
        self._queue.append(stream)

    def start(self) -> list[StreamState]:
        """Give the databases whose snapshot is to be made now."""
        started = []
        while self._queue and self._used < self._most:
            stream = self._queue.popleft()
            self._used += 1
            stream.mode = Mode.SNAP_MAKING
            started.append(stream)
        return started

    def installed(self, stream: StreamState) -> None:
        """The replica has it: the slot is free, the log is next."""
        self._used -= 1
        stream.mode = Mode.LOG

    def failed(self, stream: StreamState) -> None:
        """It could not be made; it waits for `retry`."""
        self._used -= 1
        stream.mode = Mode.SNAP_QUEUED
        self._failed.append(stream)

    def retry(self) -> None:
        """Queue what failed."""
        self._queue.extend(self._failed)
        self._failed.clear()

    def discard(self, stream: StreamState) -> None:
        """Forget a database."""
        if stream.mode in SNAPSHOT_SLOT_MODES:
            self._used -= 1
        elif stream.mode is Mode.SNAP_QUEUED:
            waiting = self._failed if stream in self._failed else self._queue
            waiting.remove(stream)

    def check(self, streams: Collection[StreamState]) -> None:
        """Check that slots and queue are what the modes say."""
        used = sum(s.mode in SNAPSHOT_SLOT_MODES for s in streams)
        invariant(self._used == used <= self._most, "snapshot slots do not add up", used=used)
        queued = sorted(id(s) for s in (*self._queue, *self._failed))
        waiting = sorted(id(s) for s in streams if s.mode is Mode.SNAP_QUEUED)
        invariant(queued == waiting, "a snapshot is forgotten, or wanted twice")
