"""Runs commands on a database's write connection: a group in one transaction, or one command alone.

Blocking; called on the event loop with a small time budget, or in a thread with the statement time limit. What must not be done here:
reading the WAL, touching the log, answering clients (see `pando.store.writer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from pando import limits
from pando.clock import Clock
from pando.errors import PandoError, SqlError, StatementTimeout, TransactionBusy
from pando.store.commands import Command, GroupControl, Outcome, SoloControl, SoloNeeded
from pando.store.feed import ChangeFeed
from pando.store.requests import Result, StatementResult
from pando.store.runner import Interrupted, Runner, TransactionLost


class GroupBroken(Exception):  # noqa: N818 - an outcome that the writer handles, not an error to show
    """The group's transaction is gone; nothing of it took effect. `culprit` is the command that broke it, if known."""

    def __init__(self, reason: str, culprit: Command | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit


class WriterBusy(Exception):  # noqa: N818 - an outcome that the writer handles
    """Another program holds SQLite's write lock on the file."""


@dataclass(slots=True)
class Engine:
    """The write connection of one database with what is needed to run commands on it.

    `before_commit` is called right before anything may become visible to readers; `on_foreign` with the write lock held and
    nothing written yet, when another program has committed since our last transaction; `feed` writes the change feed.
    """

    connection: apsw.Connection
    runner: Runner
    clock: Clock
    before_commit: Callable[[], None]
    on_foreign: Callable[[], None]
    feed: ChangeFeed | None = None
    rows_group_max: int = 50_000
    version: int = -1

    def begin(self) -> None:
        """Take the write lock; raises WriterBusy."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            raise WriterBusy from error
        if self.connection.data_version() != self.version:
            self.on_foreign()

    def note_end(self) -> None:
        """Remember the file's version at the end of our own transaction; a change after it is somebody else's."""
        self.version = self.connection.data_version()

    def roll_back(self) -> None:
        """Leave whatever transaction is open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def run_group(engine: Engine, commands: Sequence[Command], budget_s: float) -> list[Outcome]:
    """Run commands in one transaction and commit it. Gives outcomes of a prefix of the commands.

    Raises GroupBroken (nothing took effect) or WriterBusy (nothing was tried).
    """
    engine.begin()
    deadline = engine.clock.monotonic() + budget_s
    outcomes: list[Outcome] = []
    has_written = False
    rows = 0
    for command in commands:
        outcome, wrote = _run_in_group(engine, command, deadline)
        outcomes.append(outcome)
        has_written = has_written or wrote
        rows += _rows_in(outcome.results)
        if rows > engine.rows_group_max or engine.clock.monotonic() > deadline:
            break
    if has_written:
        engine.before_commit()
    _commit_group(engine)
    return outcomes


def _run_in_group(engine: Engine, command: Command, deadline: float) -> tuple[Outcome, bool]:
    control = GroupControl(engine.connection, engine.feed)
    try:
        results = engine.runner.run(command.run.requests, control, deadline=deadline)
        if control.is_open:
            control.rollback()
            if command.key[1]:
                raise SoloNeeded
    except SoloNeeded:
        command.is_solo = True
        if control.is_open:
            control.rollback()
        if control.has_written_outside:
            engine.roll_back()
            raise GroupBroken("a command wrote before it asked to be alone", command) from None
        return Outcome(command), False
    except Interrupted:
        command.is_slow = True
        engine.roll_back()
        raise GroupBroken("a command took longer than its budget", command) from None
    except TransactionLost as lost:
        command.is_solo = True
        engine.roll_back()
        raise GroupBroken(f"a command ended the transaction: {lost.failure.message}", command) from None
    command.tables |= control.tables
    return Outcome(command, results=results), control.has_written


def _commit_group(engine: Engine) -> None:
    try:
        engine.connection.execute("COMMIT")
    except apsw.Error as error:
        # A deferred constraint fails here for one of the commands: run alone, each meets its own.
        engine.roll_back()
        raise GroupBroken(f"the group could not be committed: {error}", None) from error
    engine.note_end()


def _rows_in(results: Sequence[Result] | None) -> int:
    return sum(len(result.rows) for result in results or () if isinstance(result, StatementResult))


def run_solo(engine: Engine, command: Command, limit_s: float, *, session_is_open: bool) -> Outcome:
    """Run one command with real transactions of its own; it may leave one open when it has a session."""
    control = SoloControl(engine.connection, engine.feed)
    engine.before_commit()
    try:
        if not session_is_open:
            engine.begin()
            engine.connection.execute("ROLLBACK")
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
    except TransactionLost as lost:
        engine.roll_back()
        return Outcome(command, results=[lost.failure for _ in command.run.requests])
    except WriterBusy:
        return Outcome(command, error=TransactionBusy("another program holds the write lock of the database file"))
    finally:
        engine.note_end()
    is_open = engine.connection.in_transaction
    if is_open and not command.key[1]:
        engine.roll_back()
        is_open = False
    command.tables |= control.tables
    return Outcome(command, results=results, is_open=is_open)


def _why_stopped(engine: Engine, stopped: Interrupted, limit_s: float) -> PandoError:
    if engine.feed is not None and engine.feed.overflowed:
        most = limits.FEED_EVENTS_MAX
        return SqlError(
            f"one statement changes more than {most} rows, which the change feed does not take; split it",
            code="SQLITE_TOOBIG",
        )
    if stopped.is_cancelled:
        return StatementTimeout("the request was cancelled; nothing of its last transaction took effect")
    return StatementTimeout(f"the statement ran longer than {limit_s:g} s; nothing of its transaction took effect")


def refusal(error: Exception) -> PandoError:
    """Turn whatever an execution raised into the error that its client is told."""
    if isinstance(error, PandoError):
        return error
    return SqlError(f"SQLite error: {error}")
