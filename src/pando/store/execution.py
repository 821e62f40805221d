"""Runs commands on a database's write connection: a group in one transaction, or one command alone.

Blocking; called on the event loop with a small time budget, or in a thread with the statement time limit. What must
not be done here: reading the WAL, touching the log, answering clients (see `pando.store.writer`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import apsw

from pando import limits
from pando.clock import Clock
from pando.errors import PandoError, SqlError, StatementTimeout, StorageError, TransactionBusy
from pando.store.commands import Command, GroupControl, Outcome, SoloControl, SoloNeeded
from pando.store.feed import FEED_TABLE, RECORDS_TABLE, ChangeFeed, has_records, too_much
from pando.store.requests import Result, StatementResult
from pando.store.runner import Interrupted, Runner, TransactionLost
from pando.store.statements import ALL_TABLES, Statements, sqlite_failure

_OF_RECORDS = frozenset({RECORDS_TABLE, *ALL_TABLES})


class GroupBroken(Exception):
    """The group's transaction is gone; nothing of it took effect. `culprit` is the command that broke it, if known."""

    def __init__(self, reason: str, culprit: Command | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit


class WriterBusy(Exception):
    """Another program holds SQLite's write lock on the file."""


class ForeignCommits(Exception):
    """Another program has committed; that must be captured before we write."""


@dataclass(slots=True)
class Engine:
    """The write connection of one database with what is needed to run commands on it.

    `before_commit` is called right before anything may become visible to readers, with the tables that change (none: it
    may be any); `is_behind`, with the write lock held and nothing written yet, tells whether another program has
    committed since our last transaction; `feed` writes the change feed; `statements` are those of the runner.
    `commits` counts our own commits. `may_need_feed`: there is no
    feed yet, and the tables that one is kept for may be there now.
    """

    connection: apsw.Connection
    runner: Runner
    clock: Clock
    before_commit: Callable[[Iterable[str]], None]
    is_behind: Callable[[], bool]
    feed: ChangeFeed | None = None
    rows_group_max: int = 50_000
    statements: Statements | None = None
    busy_wait_s: float = limits.TRANSACTION_TIME_S
    commits: int = 0
    may_need_feed: bool = False

    def __post_init__(self) -> None:
        """Count commits from here on."""
        self.connection.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _database: str, _frames: int) -> int:
        self.commits += 1
        return apsw.SQLITE_OK

    def begin(self) -> None:
        """Take the write lock; raises WriterBusy, ForeignCommits, and StorageError: then nothing is open."""
        if self.may_need_feed and self.begin_feed():
            raise ForeignCommits  # there is a commit to be captured
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            raise WriterBusy from error
        except apsw.Error as error:
            raise StorageError(f"the database file cannot be written: {error}") from error
        is_behind = True
        try:
            is_behind = self.is_behind()
        finally:
            if is_behind:
                self.roll_back()
        if is_behind:
            raise ForeignCommits
        if self.feed is not None:
            self.feed.begin()

    def note_tables(self, tables: set[str]) -> None:
        """A command may have changed these tables."""
        if self.feed is None and not tables.isdisjoint(_OF_RECORDS):
            self.may_need_feed = True

    def begin_feed(self) -> bool:
        """Keep a feed from now on if the database has records; True if something was committed for it.

        Raises WriterBusy, StorageError: then it is to be tried again before anything else is written.
        """
        commits = self.commits
        try:
            if has_records(self.connection):
                self.before_commit(())
                self.feed = ChangeFeed(self.connection, self.clock)
        except apsw.BusyError as error:
            raise WriterBusy from error
        except apsw.Error as error:
            raise StorageError(f"the change feed cannot be begun: {error}") from error
        self.may_need_feed = False
        return self.commits > commits

    def forget_schema(self) -> None:
        """Another program has committed: what was learnt of the schema may be wrong."""
        self.may_need_feed = self.feed is None
        if self.statements is not None:
            self.statements.refresh()
        if self.feed is not None:
            self.feed.forget_all()

    def roll_back(self) -> None:
        """Leave whatever transaction is open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def run_group(engine: Engine, commands: Sequence[Command], budget_s: float) -> list[Outcome]:
    """Run commands in one transaction and commit it. Gives outcomes of a prefix of the commands.

    The budget bounds the group; a command that has begun may use as much again before it is stopped, since stopping
    it costs the work of all. Raises GroupBroken (nothing took effect), and what `Engine.begin` raises (nothing was
    tried).
    """
    engine.begin()
    deadline = engine.clock.monotonic() + budget_s
    outcomes: list[Outcome] = []
    has_written = False
    rows = 0
    now = deadline - budget_s
    for command in commands:
        outcome, wrote = _run_in_group(engine, command, now + budget_s)
        outcomes.append(outcome)
        has_written = has_written or wrote
        rows += _rows_in(outcome.results)
        now = engine.clock.monotonic()
        if rows > engine.rows_group_max or now > deadline or engine.may_need_feed:
            break
    if has_written:
        engine.before_commit(_changed_tables(engine, commands[: len(outcomes)]))
        _commit_group(engine)
    else:
        engine.roll_back()  # what a command wrote that has to run alone would be a commit of nothing
    return outcomes


def _changed_tables(engine: Engine, commands: Sequence[Command]) -> Collection[str]:
    """Name what a group has changed; none when that may be anything."""
    tables: set[str] = set().union(*[command.tables for command in commands])
    if ALL_TABLES[0] in tables:
        return ()
    if engine.feed is not None:
        tables.add(FEED_TABLE)
    return tables


def _run_in_group(engine: Engine, command: Command, deadline: float) -> tuple[Outcome, bool]:
    control = GroupControl(engine.connection, engine.feed)
    engine.connection.set_last_insert_rowid(0)  # or a statement that inserts nothing would tell another client's rowid
    try:
        results = engine.runner.run(command.run.requests, control, deadline=deadline)
        if control.is_open:
            control.rollback()
            if command.key[1]:
                raise SoloNeeded
        if control.has_written and control.leaves_violations():
            control.has_written_outside = True
            raise SoloNeeded
    except SoloNeeded:
        command.is_solo = True
        if control.has_written_outside:
            raise _broken(engine, command, "a command wrote before it asked to be alone") from None
        if control.is_open:
            control.rollback()
        return Outcome(command), False
    except Interrupted:
        command.is_slow = True
        raise _broken(engine, command, "a command took longer than its budget") from None
    except TransactionLost as lost:
        command.is_solo = True
        raise _broken(engine, command, f"a command ended the transaction: {lost.failure.message}") from None
    except Exception as error:
        command.is_solo = True
        raise _broken(engine, command, f"a command failed in an unexpected way: {error!r}") from error
    command.tables |= control.tables
    engine.note_tables(control.tables)
    return Outcome(command, results=results, has_written=control.has_written), control.has_written


def _broken(engine: Engine, command: Command, reason: str) -> GroupBroken:
    engine.roll_back()
    return GroupBroken(reason, command)


def _commit_group(engine: Engine) -> None:
    try:
        engine.connection.execute("COMMIT")
    except apsw.Error as error:
        # A full disk, mostly: run alone, each meets its own.
        engine.roll_back()
        raise GroupBroken(f"the group could not be committed: {error}", None) from error


def _rows_in(results: Sequence[Result] | None) -> int:
    return sum(len(result.rows) for result in results or () if isinstance(result, StatementResult))


def run_solo(engine: Engine, command: Command, limit_s: float, *, session_is_open: bool) -> Outcome:
    """Run one command with real transactions of its own; it may leave one open when it has a session.

    Waits for another program's write lock. Raises what `Engine.begin` raises but WriterBusy, and what is a bug.
    """
    control = SoloControl(engine.connection, engine.feed)
    commits = engine.commits
    engine.connection.set_busy_timeout(int(engine.busy_wait_s * 1000))
    try:
        if not session_is_open:
            engine.begin()
            engine.roll_back()
            engine.connection.set_last_insert_rowid(0)
        engine.before_commit(())  # what a transaction will do is not known
        results = engine.runner.run(
            command.run.requests,
            control,
            deadline=engine.clock.monotonic() + limit_s,
            is_cancelled=lambda: command.is_cancelled,
        )
        control.finish()
    except Interrupted as stopped:
        engine.roll_back()
        return Outcome(command, error=_why_stopped(engine, stopped, limit_s))
    except WriterBusy:
        return Outcome(command, error=TransactionBusy(_busy(engine)))
    finally:
        command.tables |= control.tables
        engine.note_tables(control.tables)
        engine.connection.set_busy_timeout(0)
    is_open = engine.connection.in_transaction
    if is_open and (not command.key[1] or command.is_abandoned):
        engine.roll_back()
        is_open = False
    return Outcome(command, results=results, is_open=is_open, has_written=engine.commits > commits)


def _busy(engine: Engine) -> str:
    return f"another program has held the write lock of the database file for {engine.busy_wait_s:g} s; try again later"


def _why_stopped(engine: Engine, stopped: Interrupted, limit_s: float) -> PandoError:
    if engine.feed is not None and engine.feed.overflowed:
        return too_much()
    if stopped.is_cancelled:
        return StatementTimeout("the request was cancelled; nothing of its last transaction took effect")
    return StatementTimeout(
        f"the request's statements ran for longer than {limit_s:g} s (setting statement_time_s), and nobody else could "
        "write; nothing of its last transaction took effect: make them shorter, or send them in several requests"
    )


def refusal(error: BaseException) -> PandoError:
    """Turn whatever an execution raised into the error that its client is told."""
    if isinstance(error, PandoError):
        return error
    if isinstance(error, apsw.Error):
        return sqlite_failure(error)
    return SqlError(f"SQLite error: {error}")
