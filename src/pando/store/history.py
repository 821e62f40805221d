"""The history of one database on its primary: WAL frames become log entries, and the position moves on.

Order for each commit (docs/architecture.md, "The life of a write"): `before_commit` publishes that n is about to be
visible; the caller commits; `advance` captures the new frames into one entry and appends it; `sync` makes it durable;
`publish` says that n is visible, `hand_out` hands the entry to `on_durable`. Not here: SQL, threads, clients.

`advance` and `sync` may run in threads, `advance` one at a time; everything else is the event loop's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from pando.clock import Clock
from pando.errors import InvariantError, StorageError
from pando.store.capture import Capture, NewBase
from pando.store.commitlog import CommitLog, LogEntry
from pando.store.positions import PositionTable
from pando.types import TXID, Epoch, Position

ANY_TABLE = ("*",)
"""`tables` of an entry of which it is not known what it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the positions of a database are published."""

    table: PositionTable
    number: int


def _ignore(position: Position) -> None:
    """For who does not care about new bases."""


class History:
    """Moves one database from position to position; every entry is in the log before its position is published.

    `make_durable` syncs the WAL (for a `NewBase`); `on_new_base` hears of a position that no entry leads to.
    """

    def __init__(
        self,
        *,
        log: CommitLog,
        capture: Capture,
        slot: Slot,
        epoch: Epoch,
        clock: Clock,
        on_durable: Callable[[LogEntry], None],
        make_durable: Callable[[], None],
        on_new_base: Callable[[Position], None] = _ignore,
    ) -> None:
        self._log = log
        self._capture = capture
        self._slot = slot
        self._clock = clock
        self._on_durable = on_durable
        self._make_durable = make_durable
        self._on_new_base = on_new_base
        self._captured = log.last
        self._unlogged: deque[LogEntry | NewBase] = deque()
        self._unpublished: deque[LogEntry | NewBase] = deque()
        self._is_capturing = False
        self.epoch = epoch
        self.had_foreign = False
        """Whether the last `advance` found commits of another program."""
        slot.table.publish_tables(slot.number, log.last.txid)
        slot.table.publish_about(slot.number, log.last.txid)
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
        """True when every commit that this process knows of is in the durable log and published."""
        return not (self._is_capturing or self._unlogged or self._unpublished)

    @property
    def is_logged(self) -> bool:
        """True when every commit that this process knows of is in the log, durable or not."""
        return not (self._is_capturing or self._unlogged)

    @property
    def pending_bytes(self) -> int:
        """Bytes of entries that are held because they are not published yet; ask while no thread captures."""
        return sum(map(_size_of, self._unlogged)) + sum(map(_size_of, self._unpublished))

    @property
    def wal_frames(self) -> int:
        """Frames in the WAL, as of the last capture."""
        return self._capture.wal_frames

    def is_behind(self) -> bool:
        """Tell whether somebody has committed what is not captured yet. Raises StorageError."""
        return self._capture.is_behind()

    def backlog_bytes(self) -> int:
        """About how many bytes `advance` will read. Raises StorageError."""
        return self._capture.backlog_bytes()

    def before_commit(self, tables: Iterable[str]) -> None:
        """Say that the next commit is about to be visible, and which tables it changes; none: any."""
        table, number = self._slot.table, self._slot.number
        table.publish_tables(number, self._captured.txid + 1, tables)
        table.publish_about(number, self._captured.txid + 1)

    def nothing_committed(self) -> None:
        """Take `before_commit` back: the commit failed."""
        self._slot.table.publish_about(self._slot.number, self._captured.txid)

    def advance(self, tables: tuple[str, ...], *, commits: int = 1) -> bool:
        """Capture what was committed since the last call and append it to the log. False when nothing was.

        `commits`: how many of them were the caller's, who changed `tables`; if there were others, any table may have
        changed. Raises StorageError: then the commit stays to be logged by a later call, before anything newer. After
        any other exception the history cannot go on.
        """
        if self._is_capturing:
            tables = ANY_TABLE  # an earlier call failed: its commits come along
        self._is_capturing = True
        taken = self._capture.take(self._captured, epoch=self.epoch, timestamp_ms=self._clock.wall_ms(), tables=tables)
        self.had_foreign = taken is not None and self._capture.commits != commits
        if taken is not None:
            if isinstance(taken, LogEntry) and self.had_foreign:
                taken = _with_any_table(taken)
            if self.had_foreign or isinstance(taken, NewBase):
                self._slot.table.publish_tables(self._slot.number, taken.position.txid)
            self._unlogged.append(taken)
            self._captured = taken.position
        else:
            self.nothing_committed()
        self._is_capturing = False
        self.log_pending()
        return taken is not None

    def log_pending(self) -> None:
        """Append captured entries that are not in the log yet; raises StorageError."""
        self._realign()
        while self._unlogged:
            first = self._unlogged[0]
            if isinstance(first, NewBase):
                self._begin_anew(first)
            elif not self._append(first):
                continue
            self._unpublished.append(first)
            self._unlogged.popleft()

    def _append(self, entry: LogEntry) -> bool:
        """Append an entry; False when a sync beside us failed and took from the log what is before it."""
        try:
            self._log.append(entry)
        except InvariantError:
            if not self._realign():
                raise
            return False
        except StorageError:
            self._realign()
            raise
        return True

    def _begin_anew(self, base: NewBase) -> None:
        """Let the log begin behind a commit that it cannot hold: first what leads there must be durable elsewhere."""
        self._make_durable()
        self._log.sync()
        if self._realign():
            raise StorageError("the log lost entries that it had taken; they are written once more")
        self._log.reset(base.position)

    def _realign(self) -> bool:
        """After a failed append or sync the log is at its durable end again: what was behind it must be appended
        anew.
        """
        moved = False
        while self._unpublished and self._unpublished[-1].position.txid > self._log.last.txid:
            self._unlogged.appendleft(self._unpublished.pop())
            moved = True
        return moved

    def sync(self) -> Position:
        """Make what was appended durable; may run in a thread beside `advance`. Gives the durable position."""
        return self._log.sync()

    def publish(self, durable: TXID) -> list[LogEntry | NewBase]:
        """Say that what is durable up to a TXID is visible; gives it, to be handed out."""
        ready: list[LogEntry | NewBase] = []
        while self._unpublished and self._unpublished[0].position.txid <= durable:
            ready.append(self._unpublished.popleft())
        if ready:
            self._publish(ready[-1].position)
        return ready

    def hand_out(self, published: list[LogEntry | NewBase]) -> None:
        """Give what was published to whoever waits for it, in order."""
        for one in published:
            if isinstance(one, NewBase):
                self._on_new_base(one.position)
            else:
                self._on_durable(one)

    def _publish(self, position: Position) -> None:
        table, number = self._slot.table, self._slot.number
        table.publish_visible(number, position.epoch, position.txid, position.checksum)
        table.publish_head(number, position.txid, self._clock.wall_ms())


def _size_of(taken: LogEntry | NewBase) -> int:
    return len(taken.payload) if isinstance(taken, LogEntry) else 0


def _with_any_table(entry: LogEntry) -> LogEntry:
    return msgspec.structs.replace(entry, tables=ANY_TABLE)
