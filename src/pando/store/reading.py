"""One read-only connection with what runs requests on it, for web processes and for the store.

Not here: who gets which connection (`pando.sql.readers`, `pando.store.beside`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from pando import limits
from pando.clock import Clock
from pando.errors import InvalidRequest, NotReady, PandoError, StatementTimeout
from pando.store.requests import Request, Result
from pando.store.runner import Interrupted, Limit, PlainControl, Runner, RunnerOptions
from pando.store.statements import StatementOptions, Statements

BUSY_INLINE_MS = 2
"""How long a read on an event loop waits for SQLite's locks, which readers meet only while a WAL is recovered."""
BUSY_THREAD_MS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What settings say of reads."""

    statement_s: float = limits.STATEMENT_TIME_S
    foreign_keys: bool = True
    """What the writer does; a reader only says it when asked."""


class Reader:
    """One read-only connection with what runs requests on it. One user at a time."""

    def __init__(self, path: str, clock: Clock, *, busy_ms: int, options: ReadOptions | None = None) -> None:
        options = options or ReadOptions()
        try:
            self.connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=256)
            self.connection.set_busy_timeout(busy_ms)
            self.connection.pragma("foreign_keys", int(options.foreign_keys))
            self.statements = Statements(self.connection, options=StatementOptions(schema_changes_elsewhere=True))
        except apsw.Error as error:
            raise NotReady(f"the database cannot be opened for reading: {error}; try again") from error
        self.runner = Runner(
            self.connection, self.statements, clock, RunnerOptions(statement_time_s=options.statement_s)
        )
        self.control = PlainControl(self.connection, goes_on_after_loss=True)

    def run(self, requests: Sequence[Request], deadline: float = math.inf) -> list[Result]:
        """Run requests; raises Interrupted."""
        return self.runner.run(requests, self.control, deadline=deadline)

    def run_cancellable(self, requests: Sequence[Request], cancel: Cancel) -> list[Result]:
        """Run requests in a thread; raises Interrupted."""
        return self.runner.run(requests, self.control, is_cancelled=cancel.is_set)

    def roll_back(self) -> None:
        """End a transaction that was left open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close(True)


@dataclass(slots=True)
class Cancel:
    """A flag that another thread looks at."""

    value: bool = False

    def is_set(self) -> bool:
        """Tell whether to stop."""
        return self.value


def too_slow(stopped: Interrupted) -> PandoError:
    """Say that a read was stopped."""
    if stopped.is_cancelled:
        return InvalidRequest("the client went away before its read had ended")
    limit = f" after {stopped.limit_s:g} s (setting statement_time_s)" if stopped.limit is Limit.STATEMENT_TIME else ""
    return StatementTimeout(f"a statement was stopped{limit}; make it shorter, or run it in parts")
