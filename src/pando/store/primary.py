"""One database on its primary: opened with recovery, written by one writer, checkpointed, handed out as snapshots.

Not here: the message protocol (`pando.store.handlers`), which databases exist (`pando.store.catalog`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import apsw

from pando import limits
from pando.errors import CorruptionError, NotReady, PandoError, StorageError
from pando.store.beside import BesideOptions, ReadsBeside
from pando.store.capture import Capture
from pando.store.checkpoints import Checkpointer, close_connection
from pando.store.commands import Command, SessionKey
from pando.store.commitlog import CommitLog, LogEntry
from pando.store.context import StoreContext
from pando.store.execution import Engine
from pando.store.feed import ChangeFeed, has_records
from pando.store.history import History, Slot
from pando.store.holds import Hold
from pando.store.opening import Opened, open_checked, sync_wal
from pando.store.protocol import DatabaseStatus
from pando.store.quotas import NO_QUOTA, Quota, limit_size
from pando.store.reading import ReadOptions
from pando.store.recovery import NewHistory
from pando.store.runner import Runner, RunnerOptions
from pando.store.statements import Statements, harden
from pando.store.waiters import PositionWaiters
from pando.store.writer import Confirm, Writer, WriterOptions
from pando.types import TXID, Epoch, Position, format_checksum

_OPEN_BUSY_MS = 2000
_LOCK_WAIT_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryOptions:
    """Settings that every database of a primary shares."""

    writer: WriterOptions
    foreign_keys: bool = True
    change_feed: frozenset[str] = frozenset()
    log_bytes_max: int = limits.LOG_SIZE_BYTES_MAX


def connect_writer(path: str, *, foreign_keys: bool) -> apsw.Connection:
    """Open the write connection: WAL, no automatic checkpoints, the log is what gets fsynced. Raises StorageError.

    Temporary data may go to files: a VACUUM or a large statement must not be held in memory.
    """
    try:
        connection = apsw.Connection(path)
    except apsw.Error as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    try:
        connection.set_busy_timeout(_OPEN_BUSY_MS)
        mode = connection.execute("PRAGMA journal_mode=WAL").get
        connection.set_busy_timeout(0)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA cache_size=-16384")
        connection.execute(f"PRAGMA journal_size_limit={limits.WAL_KEPT_BYTES_MAX}")
        harden(connection)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        connection.close(force=True)
        raise CorruptionError(f"{path} cannot be read as a SQLite database: {error}") from error
    except apsw.Error as error:
        connection.close(force=True)
        raise StorageError(f"cannot open {path}: {error}") from error
    if mode != "wal":
        connection.close()
        raise StorageError(f"{path} was taken out of WAL mode by another program")
    return connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearers:
    """Who is told what happens to a database: of outcomes that are durable here, of entries of its log that are, and of
    positions that no entry leads to.
    """

    confirm: Confirm
    on_durable: Callable[[str, LogEntry], None]
    on_new_base: Callable[[str, Position], None]


class PrimaryDatabase:
    """An open database that takes writes."""

    def __init__(
        self,
        name: str,
        context: StoreContext,
        options: PrimaryOptions,
        opened: Opened,
        slot: Slot,
        hearers: Hearers,
        quota: Quota = NO_QUOTA,
    ) -> None:
        self.name = name
        self.path = opened.path
        self.slot = slot
        self.log: CommitLog = opened.log
        self.waiters = PositionWaiters()
        self._context = context
        self._options = options
        self._raw = opened.raw
        self._on_durable = hearers.on_durable
        self.last_used = context.clock.monotonic()
        self._on_new_base = hearers.on_new_base
        self._is_closed = False
        self._connection = opened.connection
        capture = Capture(raw=opened.raw, checksums=opened.checksums, keep_others_out=self._keep_others_out)
        capture.start(opened.wal.salts, opened.wal.frames)
        capture.is_behind()  # from here on commits are counted
        self.history = History(
            log=opened.log,
            capture=capture,
            slot=slot,
            epoch=context.state.epoch,
            clock=context.clock,
            on_durable=self._durable,
            make_durable=partial(sync_wal, context.fs, opened.path),
            on_new_base=self._new_base,
        )
        engine = self._engine = self._make_engine(opened)
        self.writer = Writer(
            engine=engine,
            history=self.history,
            clock=context.clock,
            executor=context.executor,
            sync_executor=context.sync_executor,
            confirm=hearers.confirm,
            options=options.writer,
        )
        self.checkpointer = Checkpointer(
            path=opened.path, history=self.history, writer=self.writer, executor=context.executor
        )
        self._beside = self._make_beside()
        self._quota = self._quota_wanted = NO_QUOTA
        if quota != NO_QUOTA:
            self._limit(quota)

    def _make_engine(self, opened: Opened) -> Engine:
        connection, clock, options = opened.connection, self._context.clock, self._options
        is_fed = self.name in options.change_feed or has_records(connection)
        feed = ChangeFeed(connection, clock) if is_fed else None
        if feed is not None and isinstance(opened.decision, NewHistory):
            feed.leave_gap()
        statements = Statements(connection)
        run_options = RunnerOptions(statement_time_s=options.writer.statement_s)
        return Engine(
            connection=connection,
            runner=Runner(connection, statements, clock, run_options),
            statements=statements,
            clock=clock,
            before_commit=self.history.before_commit,
            is_behind=self.history.is_behind,
            feed=feed,
        )

    def _make_beside(self) -> ReadsBeside:
        options = self._options
        read = ReadOptions(statement_s=options.writer.statement_s, foreign_keys=options.foreign_keys)
        return ReadsBeside(
            self.path,
            clock=self._context.clock,
            executor=self._context.read_executor or self._context.executor,
            finish=self.writer.finish_read,
            options=BesideOptions(queue_max=options.writer.queue_max, budget_s=options.writer.budget_s, read=read),
        )

    @classmethod
    async def open(
        cls,
        name: str,
        context: StoreContext,
        options: PrimaryOptions,
        slot: Slot,
        hearers: Hearers,
        quota: Quota = NO_QUOTA,
    ) -> PrimaryDatabase:
        """Recover file, WAL and log to one position, then open the writer. Raises PandoError."""
        opened = await open_checked(name, context, partial(connect_writer, foreign_keys=options.foreign_keys))
        try:
            return cls(name, context, options, opened, slot, hearers, quota)
        except BaseException:
            close_connection(opened.connection, keep_wal=True)
            opened.raw.close()
            opened.log.close()
            raise

    @property
    def position(self) -> Position:
        """The newest durable position."""
        return self.log.durable

    def submit(self, command: Command) -> None:
        """Queue a command for the writer, or one that only reads beside it; raises Overloaded or what stopped the
        writer.
        """
        self.last_used = self._context.clock.monotonic()
        if command.run.read_only:
            trouble = self.writer.trouble
            if trouble is not None:
                raise trouble.with_traceback(None)
            self._beside.submit(command)
        else:
            self.writer.submit(command)

    @property
    def is_idle(self) -> bool:
        """Nothing queued, running, open or waited for."""
        return self.writer.is_idle and self._beside.is_idle and not len(self.waiters)

    def cancel(self, link: int, run_id: int) -> None:
        """Stop a queued or running command."""
        self.writer.cancel(link, run_id)
        self._beside.cancel(link, run_id)

    def end_session(self, key: SessionKey) -> None:
        """Roll back a session."""
        self.writer.end_session(key)

    def end_link(self, link: int) -> None:
        """Forget everything of a link."""
        self.writer.end_link(link)
        self._beside.end_link(link)

    @property
    def must_reopen(self) -> bool:
        """It has stopped by a fault of its own: close it, and let recovery look at it."""
        return self.writer.has_failed

    async def limit(self, quota: Quota) -> None:
        """Have the writer keep to what is configured for this database, from the next command on."""
        self._quota_wanted = quota
        if quota == self._quota or self._is_closed:
            return
        await self.writer.hold(Hold.PAUSE)
        try:
            if not self._is_closed and self.writer.trouble is None:
                self._limit(self._quota_wanted)  # another one may have been asked for meanwhile
        finally:
            self.writer.release(Hold.PAUSE)

    def _limit(self, quota: Quota) -> None:
        """Only while nothing runs on the connection."""
        limit_size(self._connection, quota.max_db_size)
        self._engine.runner.size_bytes_max = quota.max_db_size
        seconds = quota.txn_timeout_s
        self.writer.limit_transactions(self._options.writer.transaction_s if seconds is None else seconds)
        self._quota = quota

    async def checkpoint(self) -> None:
        """Move the WAL into the file, as far as readers allow."""
        await self.checkpointer.finish()

    def tick(self, now: float) -> None:
        """Look at deadlines, and at the WAL."""
        self.waiters.expire(now)
        self.writer.look()
        self.checkpointer.look()

    def wait(self, epoch: Epoch, txid: TXID, deadline: float, answer: Callable[[PandoError | None], None]) -> None:
        """Answer once the commit is visible here. On the primary a commit that is not there yet is in flight, or
        never was.
        """
        table, slot = self.slot.table, self.slot.number
        visible_epoch, visible_txid = table.visible(slot)
        if (visible_epoch >= epoch and visible_txid >= txid) or table.about(slot)[1] < txid:
            answer(None)
            return
        self.waiters.add(epoch=epoch, txid=txid, deadline=deadline, answer=answer)

    def status(self) -> DatabaseStatus:
        """Say how the database stands."""
        position = self.position
        stopped = self.writer.trouble
        return DatabaseStatus(
            name=self.name,
            epoch=position.epoch,
            txid=position.txid,
            checksum=format_checksum(position.checksum),
            head_txid=position.txid,
            size_bytes=self._raw.page_count * self._raw.page_size,
            wal_size_bytes=self._raw.wal_size_bytes,
            log_size_bytes=self.log.size_bytes,
            state="open" if stopped is None else "stopped",
            reason="" if stopped is None else stopped.message,
        )

    async def pinned(self, use: Callable[[Position], Awaitable[None]]) -> Position:
        """Call `use` with the position while no commit can happen; for snapshots and scans, which pin it for
        themselves. An open transaction pauses meanwhile, and goes on.
        """
        await self.writer.hold(Hold.PAUSE)
        try:
            if self.writer.trouble is not None:
                raise NotReady(f"the database {self.name!r} takes no writes now: {self.writer.trouble.message}")
            position = self.log.durable
            await use(position)
            return position
        finally:
            self.writer.release(Hold.PAUSE)

    async def close(self) -> None:
        """Finish what runs, move the WAL into the file, and close. Who waits is refused. Called again: nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        ending = NotReady(f"the database {self.name!r} is being closed; try again")
        await self._beside.close(ending)
        self.writer.expel(ending)
        await self.writer.hold()
        try:
            self.writer.stop(ending)
            self.waiters.refuse_all(ending)
            await self.writer.hold()  # what ran when it was stopped by somebody else
            is_settled = not self.writer.has_failed and self.history.is_settled and not self.history.is_behind()
            await self.checkpointer.close(keep_wal=not is_settled)
            await asyncio.get_running_loop().run_in_executor(self._context.executor, self._close_blocking, is_settled)
        finally:
            self.writer.release()

    def _close_blocking(self, is_settled: bool) -> None:
        try:
            close_connection(self._connection, keep_wal=not is_settled)
        finally:
            self._raw.close()
            self.log.close()

    @contextmanager
    def _keep_others_out(self) -> Iterator[None]:
        """Hold SQLite's write lock; only while nothing else uses the connection, or with its transaction open."""
        connection = self._connection
        if connection.in_transaction:
            yield
            return
        connection.set_busy_timeout(_LOCK_WAIT_MS)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        except apsw.Error as error:
            raise StorageError(f"another program keeps {self.path} locked: {error}") from error
        finally:
            connection.set_busy_timeout(0)
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _durable(self, entry: LogEntry) -> None:
        self._on_durable(self.name, entry)
        self.waiters.advance(entry.epoch, entry.max_txid)
        self.checkpointer.look()

    def _new_base(self, position: Position) -> None:
        self._on_new_base(self.name, position)
        self.waiters.advance(position.epoch, position.txid)
        self.checkpointer.look()
