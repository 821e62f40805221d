"""The history of one database on its primary: WAL frames become log entries, and the position moves on.

Order for each commit (docs/architecture.md, "The life of a write"): `before_commit` publishes that n is about to be
visible; the caller commits; `advance` captures the new frames into one entry and appends it; `sync` makes it durable; `publish`
says that n is visible and hands the entry to `on_durable`. Not here: SQL, threads, clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pando.clock import Clock
from pando.errors import StorageError
from pando.store.capture import Capture
from pando.store.commitlog import CommitLog, LogEntry
from pando.store.positions import PositionTable
from pando.types import TXID, Epoch, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the positions of a database are published."""

    table: PositionTable
    number: int


class History:
    """Moves one database from position to position; every entry is in the log before its position is published."""

    def __init__(
        self,
        *,
        log: CommitLog,
        capture: Capture,
        slot: Slot,
        epoch: Epoch,
        clock: Clock,
        on_durable: Callable[[LogEntry], None],
    ) -> None:
        self._log = log
        self._capture = capture
        self._slot = slot
        self._clock = clock
        self._on_durable = on_durable
        self._captured = log.last
        self._unlogged: deque[LogEntry] = deque()
        self._unpublished: deque[LogEntry] = deque()
        self.epoch = epoch
        self._publish(log.last)

    @property
    def position(self) -> Position:
        """The position of the last captured commit."""
        return self._captured

    @property
    def durable(self) -> Position:
        """The position that survives a loss of power."""
        return self._log.durable

    @property
    def is_settled(self) -> bool:
        """True when every commit is in the durable log."""
        return not self._unlogged and not self._unpublished

    @property
    def wal_frames(self) -> int:
        """Frames in the WAL, as of the last capture."""
        return self._capture.wal_frames

    def before_commit(self) -> None:
        """Say that the next commit is about to be visible."""
        self._slot.table.publish_about(self._slot.number, self._captured.txid + 1)

    def advance(self, tables: tuple[str, ...]) -> bool:
        """Capture what was committed since the last call and append it to the log. False when nothing was.

        Raises StorageError: then the commit stays to be logged by a later call, before anything newer.
        """
        entry = self._capture.take(self._captured, epoch=self.epoch, timestamp_ms=self._clock.wall_ms(), tables=tables)
        if entry is None:
            if not self._unpublished:
                self._slot.table.publish_about(self._slot.number, self._captured.txid)
        else:
            self._captured = entry.position
            self._unlogged.append(entry)
        return self.log_pending() or entry is not None

    def log_pending(self) -> bool:
        """Append captured entries that are not in the log yet; raises StorageError."""
        logged = False
        while self._unlogged:
            self._log.append(self._unlogged[0])
            self._unpublished.append(self._unlogged.popleft())
            logged = True
        return logged

    def sync(self) -> Position:
        """Make what was appended durable; may run in a thread beside `advance`. Gives the durable position."""
        return self._log.sync()

    def publish(self, durable: TXID) -> None:
        """Publish and hand out the entries up to a durable TXID."""
        last: LogEntry | None = None
        while self._unpublished and self._unpublished[0].max_txid <= durable:
            last = self._unpublished.popleft()
            self._on_durable(last)
        if last is not None:
            self._publish(last.position)

    def restart_unpublished(self) -> None:
        """After a failed sync the log is at its durable end again: what was appended behind it must be appended anew."""
        while self._unpublished:
            self._unlogged.appendleft(self._unpublished.pop())
        if self._unlogged and self._unlogged[0].min_txid != self._log.last.txid + 1:
            raise StorageError("the log lost entries that it had taken; the database stops until it is reopened")

    def _publish(self, position: Position) -> None:
        table, number = self._slot.table, self._slot.number
        if not self._unpublished and position.txid == self._captured.txid:
            table.publish_about(number, position.txid)
        table.publish_visible(number, position.epoch, position.txid, position.checksum)
        table.publish_head(number, position.txid, self._clock.wall_ms())
