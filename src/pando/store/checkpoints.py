"""Checkpoints of a primary's database on our own schedule, off the commit path, never past the durable log.

Two kinds: *passive* runs in a thread beside the writer, bounded by a read transaction of our own that was opened when every
commit was durable (SQLite never moves frames past a reader's snapshot). When the WAL has grown past `WAL_PAGES_RESTART` frames the
writer is held for a moment, the rest is moved, and SQLite starts the WAL anew at the next write. Not here: applied files (the applier has its own).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import apsw

from pando import limits
from pando.store.history import History
from pando.store.writer import Writer
from pando.types import TXID


def open_guard(path: str) -> apsw.Connection:
    """Open a connection for checkpoints and the guarding read transaction."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(0)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


class Checkpointer:
    """Watches the WAL of one database and moves its frames into the file."""

    def __init__(self, *, path: str, history: History, writer: Writer, executor: Executor) -> None:
        self._history = history
        self._writer = writer
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._guard = open_guard(path)
        self._mover = open_guard(path)
        self._task: asyncio.Task[None] | None = None
        self._moved_frames = 0
        self.checkpointed = TXID(0)
        """Everything up to this TXID is in the database file and fsynced there."""

    def look(self) -> None:
        """Start a checkpoint if the WAL has grown enough; called after commits, when every commit is durable."""
        frames = self._history.wal_frames
        if frames < self._moved_frames:
            self._moved_frames = 0  # the WAL began anew
        if self._task is None and frames - self._moved_frames >= limits.WAL_PAGES_CHECKPOINT:
            if not self._history.is_settled:
                return
            self._pin()
            self._task = self._loop.create_task(self._run(frames))

    def _pin(self) -> None:
        self._guard.execute("BEGIN")
        self._guard.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()

    async def _run(self, frames: int) -> None:
        try:
            bound = self._history.durable.txid
            try:
                moved = await self._loop.run_in_executor(self._executor, self._move)
            finally:
                self._guard.execute("ROLLBACK")
            self._note(moved, frames, bound)
            if self._history.wal_frames >= limits.WAL_PAGES_RESTART:
                await self.finish()
        finally:
            self._task = None

    async def finish(self) -> None:
        """Hold the writer and move everything, so that the WAL can begin anew."""
        await self._writer.hold()
        try:
            if self._writer.stopped is not None:
                return
            bound = self._history.durable.txid
            frames = self._history.wal_frames
            moved = await self._loop.run_in_executor(self._executor, self._move)
            self._note(moved, frames, bound)
        finally:
            self._writer.release()

    def _note(self, moved: int, frames: int, bound: TXID) -> None:
        # A reader with an old snapshot keeps later frames from being moved: then nothing new is known to be in the file.
        self._moved_frames = moved
        if moved >= frames:
            self.checkpointed = bound

    def _move(self) -> int:
        """Run one passive checkpoint; gives how many frames of the WAL are in the file now."""
        try:
            _total, moved = self._mover.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return 0  # another checkpoint runs; there will be a next time
        return max(0, moved)

    async def close(self) -> None:
        """Wait for a running checkpoint and close the connections."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._guard.close()
        self._mover.close()
