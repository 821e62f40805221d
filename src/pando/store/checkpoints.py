"""Checkpoints of a primary's database on our own schedule, off the commit path, never past the durable log.

Two kinds: *passive* runs in a thread beside the writer, bounded by a read transaction of our own that was opened when
every commit was durable (SQLite never moves frames past a reader's snapshot). When the WAL has grown past
`WAL_PAGES_RESTART` frames the writer is held for a moment, the rest is moved, readers of old snapshots get a little
time to leave, and SQLite starts the WAL anew at the next write. Not here: applied files (the applier has its own).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import apsw

from pando import limits
from pando.errors import PandoError, StorageError
from pando.store.history import History
from pando.store.holds import Hold
from pando.store.writer import Writer
from pando.types import TXID

READERS_WAIT_MS = 100
"""How long the writer is held for readers of old snapshots to leave."""


def open_guard(path: str) -> apsw.Connection:
    """Open a connection for checkpoints and the guarding read transaction. Raises StorageError."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(0)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA synchronous=NORMAL")
    except apsw.Error as error:
        raise StorageError(f"cannot open {path} for checkpoints: {error}") from error
    return connection


def close_connection(connection: apsw.Connection, *, keep_wal: bool) -> None:
    """Close a connection. The last one moves the WAL into the file, unless it holds what the log does not
    (`keep_wal`).
    """
    if keep_wal:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()


class Checkpointer:
    """Watches the WAL of one database and moves its frames into the file."""

    def __init__(
        self,
        *,
        path: str,
        history: History,
        writer: Writer,
        executor: Executor,
        pages_due: int = limits.WAL_PAGES_CHECKPOINT,
        pages_restart: int = limits.WAL_PAGES_RESTART,
    ) -> None:
        self._history = history
        self._writer = writer
        self._executor = executor
        self._pages_due = pages_due
        self._pages_restart = pages_restart
        self._loop = asyncio.get_running_loop()
        self._guard = open_guard(path)
        self._mover = open_guard(path)
        self._task: asyncio.Task[None] | None = None
        self._is_moving = asyncio.Lock()
        self._is_closed = False
        self._seen_frames = 0
        self._due = pages_due
        self._restart_due = pages_restart
        self.checkpointed = TXID(0)
        """Everything up to this TXID survives a loss of power without the log: it is in the file, or in the part of the
        WAL that SQLite syncs before it moves anything."""
        self.failure = ""
        """Why the last checkpoint failed, if it did."""

    def look(self) -> None:
        """Start a checkpoint if the WAL has grown enough; called after commits and now and then."""
        frames = self._history.wal_frames
        if frames < self._seen_frames:  # the WAL began anew
            self._due, self._restart_due = self._pages_due, self._pages_restart
        self._seen_frames = frames
        if self._task is not None or self._is_closed or frames < self._due or not self._history.is_settled:
            return
        bound = self._pin()
        if bound is not None:
            self._due = frames + self._pages_due
            self._task = self._loop.create_task(self._run(frames, bound))

    def _pin(self) -> TXID | None:
        """Open the guarding snapshot; None if it may hold what the durable log does not."""
        try:
            self._guard.execute("BEGIN")
            self._guard.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            if self._history.is_settled and not self._history.is_behind():
                return self._history.durable.txid
        except (apsw.Error, StorageError) as error:
            self.failure = str(error)
        self._unpin()
        return None

    def _unpin(self) -> None:
        if self._guard.in_transaction:
            self._guard.execute("ROLLBACK")

    async def _run(self, frames: int, bound: TXID) -> None:
        try:
            try:
                await self._move(frames, bound, apsw.SQLITE_CHECKPOINT_PASSIVE)
            finally:
                self._unpin()
            if self._history.wal_frames >= self._restart_due:
                self._restart_due = self._history.wal_frames + self._pages_restart
                await self.finish(Hold.PATIENT)
        except PandoError as error:
            self.failure = error.message  # there will be a next time
        finally:
            self._task = None

    async def finish(self, hold: Hold = Hold.HURRIED) -> None:
        """Hold the writer and move everything, so that the WAL can begin anew. Does what it can: see `checkpointed`."""
        await self._writer.hold(hold)
        try:
            if self._writer.trouble is None and not self._is_closed:
                frames, bound = self._history.wal_frames, self._history.durable.txid
                if not await self._move(frames, bound, apsw.SQLITE_CHECKPOINT_RESTART):
                    await self._move(frames, bound, apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            self._writer.release(hold)

    async def _move(self, frames: int, bound: TXID, mode: int) -> bool:
        """Run a checkpoint in a thread; `bound` is the TXID of the first `frames` frames. False when it could not be
        done.
        """
        async with self._is_moving:
            try:
                moved = await self._loop.run_in_executor(self._executor, self._move_blocking, mode)
            except apsw.BusyError:
                return False  # a reader of an old snapshot, or another program's checkpoint
            except apsw.Error as error:
                self.failure = str(error)
                return False
        self.failure = ""
        # A reader with an old snapshot keeps later frames from being moved: then nothing new is known to be in the
        # file.
        if moved >= frames:
            self.checkpointed = max(self.checkpointed, bound)
        return True

    def _move_blocking(self, mode: int) -> int:
        self._mover.set_busy_timeout(0 if mode == apsw.SQLITE_CHECKPOINT_PASSIVE else READERS_WAIT_MS)
        _total, moved = self._mover.wal_checkpoint(mode=mode)
        return moved

    async def close(self, *, keep_wal: bool = False) -> None:
        """Wait for a running checkpoint and close the connections; the writer must be stopped."""
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait([self._task])
        async with self._is_moving:
            if not keep_wal:
                await self._loop.run_in_executor(self._executor, self._move_at_end)
            close_connection(self._guard, keep_wal=True)
            close_connection(self._mover, keep_wal=True)

    def _move_at_end(self) -> None:
        try:
            self._move_blocking(apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            self.failure = str(error)
