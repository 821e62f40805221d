"""Flow control of one link at the upstream: windows in bytes, and databases that catch up taking turns.

Entries and snapshot bytes count from the moment they are asked of the shell until the replica confirms them. Each
database has a window, the link has one for all; an entry of any length may go when its database has nothing in flight.
Not here: what is sent, and why (see `sender`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from pando.errors import invariant
from pando.replication.stream_state import Mode, StreamState
from pando.replication.windows import Windows

_READING_MODES = (Mode.LOG, Mode.SNAP_SENDING)


class Turns:
    """Counts bytes in flight, and says whose bytes are read next."""

    __slots__ = ("_reads", "_ready", "_windows", "in_flight")

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.in_flight = 0
        self._ready: deque[StreamState] = deque()
        self._reads = 0

    def ask(self, stream: StreamState) -> None:
        """Put a database in the queue, if it has anything to read and is not there yet."""
        if not stream.queued and not stream.reading and stream.mode in _READING_MODES:
            stream.queued = True
            self._ready.append(stream)

    def grant(self) -> list[tuple[StreamState, int]]:
        """Give each waiting database one turn, while the link has room: (stream, bytes to read)."""
        ready = self._ready
        granted = []
        for _ in range(len(ready)):
            stream = ready.popleft()
            stream.queued = False
            if stream.reading or stream.mode not in _READING_MODES:
                continue
            size = self._turn(stream)
            if size is None:
                stream.queued = True
                ready.appendleft(stream)
                break
            if size:
                self._begin(stream, size)
                granted.append((stream, size))
        return granted

    def _turn(self, stream: StreamState) -> int | None:
        """Bytes that may be read now; 0: the database's own window is full; None: the link's is, or too many reads."""
        if stream.mode is Mode.LOG:
            if self._reads >= self._windows.log_reads:
                return None
            wish = self._windows.batch_bytes
        else:
            wish = min(self._windows.chunk_bytes, stream.snapshot_size - stream.offset)
        if stream.in_flight_bytes and stream.in_flight_bytes + wish > self._windows.database_bytes:
            return 0  # its own confirmations put it back into the queue
        if self.in_flight and self.in_flight + wish > self._windows.link_bytes:
            return None
        return wish

    def _begin(self, stream: StreamState, size: int) -> None:
        stream.reading = True
        stream.head_moved = False
        stream.reserved = size
        self.in_flight += size
        self._reads += stream.mode is Mode.LOG

    def answered(self, stream: StreamState) -> None:
        """The shell answered a read."""
        stream.reading = False
        self._reads -= stream.mode is Mode.LOG
        self.in_flight -= stream.reserved
        stream.reserved = 0

    def has_room(self, stream: StreamState, size: int, count: int) -> bool:
        """Tell whether so many live entries may be sent past the queue. A single one may be of any size."""
        mine = stream.in_flight_bytes
        fits = mine + size <= self._windows.database_bytes or (not mine and count == 1)
        return fits and self.in_flight + size <= self._windows.in_flight_bytes

    def sent_entries(self, stream: StreamState, txid: int, size: int) -> None:
        """Entries up to a TXID are on their way."""
        stream.entries.add(txid, size)
        self.in_flight += size

    def sent_chunk(self, stream: StreamState, offset: int, size: int) -> None:
        """Snapshot bytes up to an offset are on their way."""
        stream.chunks.add(offset, size)
        self.in_flight += size

    def confirm_entries(self, stream: StreamState, txid: int) -> None:
        """The replica has the entries up to a TXID."""
        self.in_flight -= stream.entries.confirm(txid)

    def confirm_chunks(self, stream: StreamState, offset: int) -> None:
        """The replica has the snapshot bytes before an offset."""
        self.in_flight -= stream.chunks.confirm(offset)

    def confirm_all(self, stream: StreamState) -> None:
        """A snapshot is installed: whatever was on its way before is of no interest any more."""
        self.in_flight -= stream.entries.clear() + stream.chunks.clear()

    def discard(self, stream: StreamState) -> None:
        """Forget a stream."""
        if stream.reading:
            self.answered(stream)
        self.confirm_all(stream)
        if stream.queued:
            self._ready.remove(stream)
            stream.queued = False

    def check(self, streams: Collection[StreamState]) -> None:
        """Check that sums are the sums of their parts, and bounds hold."""
        for stream in streams:
            stream.entries.check()
            stream.chunks.check()
            invariant(stream.reading == (stream.reserved > 0), "read without reservation", database=stream.database)
            bound = self._windows.pending_bytes
            invariant(stream.in_flight_bytes <= bound, "window overrun", bytes=stream.in_flight_bytes)
        invariant(self.in_flight == sum(s.in_flight_bytes for s in streams), "bytes in flight do not add up")
        overshoot = self._windows.entry_bytes * self._windows.log_reads
        invariant(self.in_flight <= self._windows.in_flight_bytes + overshoot, "link window overrun")
        reads = sum(s.reading and s.mode is Mode.LOG for s in streams)
        invariant(self._reads == reads <= self._windows.log_reads, "log reads do not add up", reads=reads)
        invariant({id(s) for s in self._ready} == {id(s) for s in streams if s.queued}, "queue and flags differ")
