"""Commands that wait for a database's writer, and the transaction rules of a command inside a group commit.

In a group every command shares one real transaction, so a command's own BEGIN becomes a savepoint, its COMMIT the
release of it. What cannot be had that way asks to be run alone (`SoloNeeded`). Not here: queues and threads
(`pando.store.writer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import apsw

from pando.errors import PandoError, SqlError
from pando.store.feed import ChangeFeed
from pando.store.protocol import Ran, Run
from pando.store.requests import Result
from pando.store.runner import PlainControl
from pando.store.statements import StatementInfo, StatementKind

SessionKey = tuple[int, int]
"""(number of the link, session number on it); session 0 keeps nothing."""

_OWN_PREFIX = "pando "
SAVEPOINT = f'"{_OWN_PREFIX}command"'


class SoloNeeded(Exception):
    """This command cannot share a transaction with others."""


@dataclass(slots=True, eq=False)
class Command:
    """A Run that waits for the writer, with the way to answer it."""

    run: Run
    key: SessionKey
    answer: Callable[[Ran | PandoError], None]
    is_solo: bool = False
    is_slow: bool = False
    is_cancelled: bool = False
    is_abandoned: bool = False
    """Whoever sent it is gone: what it leaves open must be rolled back."""
    tables: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Outcome:
    """What became of one command: results, or an error for all of it."""

    command: Command
    results: list[Result] | None = None
    error: PandoError | None = None
    is_open: bool = False
    has_written: bool = False
    """It was part of a commit; a command that only read need not wait for a quorum."""


class GroupControl:
    """Transaction control of one command inside the group's transaction (see `runner.TransactionControl`)."""

    goes_on_after_loss = False

    def __init__(self, connection: apsw.Connection, feed: ChangeFeed | None = None) -> None:
        self._connection = connection
        self._feed = feed
        self.is_open = False
        self.tables: set[str] = set()
        self.has_written = False
        self.has_written_outside = False

    def is_autocommit(self) -> bool:
        """Tell whether the command has no transaction of its own open."""
        return not self.is_open

    def begin(self, info: StatementInfo) -> None:
        """Open the command's transaction."""
        if self.is_open:
            raise SqlError("SQLite error: cannot start a transaction within a transaction", code="SQLITE_ERROR")
        self._connection.execute(f"SAVEPOINT {SAVEPOINT}")
        self.is_open = True

    def commit(self, info: StatementInfo) -> None:
        """Keep what the command's transaction did, as part of the group."""
        if not self.is_open:
            raise SqlError("SQLite error: cannot commit - no transaction is active", code="SQLITE_ERROR")
        self._connection.execute(f"RELEASE {SAVEPOINT}")
        self.is_open = False

    def rollback(self, info: StatementInfo | None = None) -> None:
        """Undo what the command's transaction did."""
        if not self.is_open:
            raise SqlError("SQLite error: cannot rollback - no transaction is active", code="SQLITE_ERROR")
        self._connection.execute(f"ROLLBACK TO {SAVEPOINT}")
        self._connection.execute(f"RELEASE {SAVEPOINT}")
        self.is_open = False
        if self._feed is not None:
            self._feed.forget()

    def savepoint(self, info: StatementInfo, sql: str) -> None:
        """Run SAVEPOINT, RELEASE or ROLLBACK TO; outside a transaction of the command they would be one."""
        if not self.is_open:
            raise SoloNeeded
        if info.savepoint.lower().startswith(_OWN_PREFIX):
            raise SqlError(f"SQLite error: savepoints named {_OWN_PREFIX!r}... are Pando's own", code="SQLITE_ERROR")
        self._connection.execute(sql)
        if self._feed is not None:
            self._feed.forget()

    def before(self, info: StatementInfo) -> None:
        """Note what is about to run; ask to be alone where a shared transaction cannot do it."""
        if info.kind is StatementKind.SOLO:
            raise SoloNeeded
        if not info.is_readonly:
            if self._feed is not None:
                self._feed.before_statement()
            self.has_written = True
            self.has_written_outside = self.has_written_outside or not self.is_open
            self.tables.update(info.tables)

    def after(self, info: StatementInfo) -> None:
        """Let the change feed write down what the statement changed.

        If that fails the change must not stay without its rows: alone, the command can undo it.
        """
        if self._feed is None:
            return
        try:
            self._feed.after_statement(info)
        except apsw.InterruptError:
            raise
        except (apsw.Error, SqlError) as error:
            self.has_written_outside = True
            raise SoloNeeded from error

    def allows_parts(self, info: StatementInfo) -> bool:
        """Tell whether what a failing statement keeps may stay: the change feed must know it."""
        return self._feed is None or self._feed.allows_parts(info)

    def leaves_violations(self) -> bool:
        """Tell whether a deferred foreign key is violated: the group could not be committed."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0] > 0


class SoloControl(PlainControl):
    """Transaction control of a command that runs alone: SQLite's own, with the change feed in the same transaction.

    With a feed, a statement outside a transaction is wrapped in one, so that its rows of the feed are committed with
    it.
    """

    def __init__(self, connection: apsw.Connection, feed: ChangeFeed | None = None, *, read_only: bool = False) -> None:
        super().__init__(connection, goes_on_after_loss=True)
        self._read_only = read_only
        self._own_connection = connection
        self._change_feed = feed
        self._wraps = False
        self.tables: set[str] = set()

    def is_autocommit(self) -> bool:
        """Tell whether the client has no transaction open."""
        return self._wraps or super().is_autocommit()

    def begin(self, info: StatementInfo) -> None:
        """Run BEGIN."""
        self.finish()
        super().begin(info)

    def commit(self, info: StatementInfo) -> None:
        """Run COMMIT."""
        self.finish()
        super().commit(info)

    def rollback(self, info: StatementInfo) -> None:
        """Run ROLLBACK."""
        self.finish()
        super().rollback(info)
        if self._change_feed is not None:
            self._change_feed.forget()

    def savepoint(self, info: StatementInfo, sql: str) -> None:
        """Run SAVEPOINT, RELEASE or ROLLBACK TO."""
        self.finish()
        super().savepoint(info, sql)
        if self._change_feed is not None:
            self._change_feed.forget()

    def before(self, info: StatementInfo) -> None:
        """Open the wrapping transaction where one is needed."""
        self.finish()
        if self._read_only and not info.is_readonly:
            raise only_reads()
        self.tables.update(info.tables)
        if self._change_feed is not None and not info.is_readonly:
            self._change_feed.before_statement()
            if info.kind is StatementKind.WRITE and super().is_autocommit():
                self._own_connection.execute("BEGIN IMMEDIATE")
                self._wraps = True

    def after(self, info: StatementInfo) -> None:
        """Write the feed's rows and end the wrapping transaction.

        If the rows cannot be written the statement must not stay without them: the whole transaction goes.
        """
        if self._change_feed is None:
            return
        try:
            self._change_feed.after_statement(info)
        except (apsw.Error, SqlError):
            self._roll_back()
            raise
        if self._wraps:
            self._own_connection.execute("COMMIT")
            self._wraps = False

    def allows_parts(self, info: StatementInfo) -> bool:
        """Tell whether what a failing statement keeps may stay: the change feed must know it."""
        return self._change_feed is None or self._change_feed.allows_parts(info)

    def finish(self) -> None:
        """Roll back the wrapping transaction of a statement that failed."""
        if self._wraps:
            self._roll_back()

    def _roll_back(self) -> None:
        self._wraps = False
        if self._own_connection.in_transaction:
            self._own_connection.execute("ROLLBACK")


def only_reads() -> SqlError:
    """Make the error for a statement that writes in a run that may not."""
    return SqlError("SQLite error: attempt to write with rights to read only", code="SQLITE_READONLY")
