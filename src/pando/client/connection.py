"""`pando.connect`: a connection of PEP 249 to the nodes of a cluster.

Used as the standard library's `sqlite3` is. Threads may share a connection: calls wait for each other, and what they do
is then in one transaction. Nothing is sent before the first statement. Not here: what is sent, and when it is sent
again (`pando.client.session`), asyncio (`pando.client.async_connection`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from pando.client import exceptions
from pando.client.batching import execute_many
from pando.client.cursors import CursorState, RowFactory
from pando.client.exceptions import ProgrammingError
from pando.client.judging import Send
from pando.client.session import Outcome, Session, Steps
from pando.client.sharing import bookmarks_of, nodes_of
from pando.client.targets import Target
from pando.client.transport import Transport
from pando.client.values import Parameters
from pando.clock import Clock, SystemClock, sleep_blocking, system_random

T = TypeVar("T")


class Connection:
    """A connection; made by `pando.connect`. As a context manager it commits, or rolls back, and stays open."""

    Warning = exceptions.Warning
    Error = exceptions.Error
    InterfaceError = exceptions.InterfaceError
    DatabaseError = exceptions.DatabaseError
    DataError = exceptions.DataError
    OperationalError = exceptions.OperationalError
    IntegrityError = exceptions.IntegrityError
    InternalError = exceptions.InternalError
    ProgrammingError = exceptions.ProgrammingError
    NotSupportedError = exceptions.NotSupportedError

    def __init__(
        self, target: Target, *, clock: Clock | None = None, sleep: Callable[[float], None] = sleep_blocking
    ) -> None:
        now = (clock or SystemClock()).monotonic
        self.row_factory: RowFactory | None = None
        """Given to new cursors: makes rows out of tuples, as `pando.client.Row` does."""
        self._bookmarks = bookmarks_of(target.nodes, share=target.share)
        self._session = Session(target, nodes_of(target.nodes), self._bookmarks, now, system_random())
        self._transport = Transport(target.connect_timeout_s, now)
        self._sleep = sleep
        self._lock = threading.RLock()
        self._is_closed = False

    # -- PEP 249 ------------------------------------------------------------------------------------------------------

    def cursor(self) -> Cursor:
        """Make a cursor."""
        self._check()
        return Cursor(self)

    def commit(self) -> None:
        """Commit the open transaction, if there is one. Raises OutcomeUnknown when the answer is lost."""
        self._run(self._session.commit)

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        self._run(self._session.rollback)

    def close(self) -> None:
        """Roll back what is open and close; further calls do nothing."""
        with self._lock:
            if not self._is_closed:
                try:
                    self._run(self._session.rollback)
                finally:
                    self._is_closed = True
                    self._transport.close()

    # -- beyond -------------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        """Where this connection goes, and its options."""
        return self._session.target

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or lost and not rolled back yet."""
        return self._session.in_transaction

    @property
    def bookmark(self) -> str:
        """The newest commit that this connection has seen, to be handed to other programs; empty before."""
        return self._bookmarks.of(self.target.database)

    def add_bookmark(self, bookmark: str) -> None:
        """See from now on what another program has seen."""
        self._bookmarks.note(bookmark)

    @property
    def autocommit(self) -> bool:
        """True: each statement by itself. False: the first write begins a transaction."""
        return self._session.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        with self._lock:
            set_autocommit(self._session, value)

    @property
    def isolation(self) -> str:
        """READ COMMITTED (reads before the first write stand alone) or SERIALIZABLE (reads begin the transaction)."""
        return self._session.isolation

    @isolation.setter
    def isolation(self, value: str) -> None:
        with self._lock:
            set_isolation(self._session, value)

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """Run one statement with a cursor of its own, and give that."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> Cursor:
        """Run a statement for each row of parameters with a cursor of its own, and give that."""
        return self.cursor().executemany(sql, rows)

    def executescript(self, sql: str) -> Cursor:
        """Commit, then run all statements of a text."""
        return self.cursor().executescript(sql)

    def begin(self, *, read_only: bool = False) -> None:
        """Begin a transaction now: one that holds the writer, or one that reads one moment of a node."""
        self._run(lambda: self._session.begin(read_only=read_only))

    @contextlib.contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        """Begin a transaction for a `with` block: commit at its end, roll back when it raises."""
        self.begin(read_only=read_only)
        with self:
            yield self

    def __enter__(self) -> Connection:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self.commit()
            except exceptions.Error:
                self.rollback()
                raise
        elif not self._is_closed:
            self.rollback()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self._transport.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._is_closed:
            raise ProgrammingError("the connection is closed; open another one")

    def _run(self, call: Callable[[], Steps[T]]) -> T:
        """Carry a call of the session out."""
        with self._lock:
            self._check()
            steps = call()
            outcome: Outcome = None
            try:
                while True:
                    wish = steps.send(outcome)
                    outcome = None
                    if isinstance(wish, Send):
                        outcome = self._transport.send(wish)
                    else:
                        self._sleep(wish.seconds)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                steps.close()


def set_autocommit(session: Session, value: bool) -> None:
    """Change it; raises ProgrammingError inside of a transaction."""
    if bool(value) != session.autocommit and session.in_transaction:
        raise ProgrammingError("a transaction is open: commit or roll back before you change autocommit")
    session.autocommit = bool(value)


def set_isolation(session: Session, value: str) -> None:
    """Change it; raises ProgrammingError for others, and inside of a transaction."""
    if value not in {"READ COMMITTED", "SERIALIZABLE"}:
        raise ProgrammingError(f"isolation is {value!r}; it must be READ COMMITTED or SERIALIZABLE")
    if value != session.isolation and session.in_transaction:
        raise ProgrammingError("a transaction is open: commit or roll back before you change isolation")
    session.isolation = value


class Cursor(CursorState):
    """Runs statements and holds the rows of the last one. Iterating gives the rows that are left."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.row_factory)
        self.connection = connection

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        """Run one statement; gives the cursor itself."""
        self._check()
        self._take(self.connection._run(lambda: self.connection._session.execute(sql, parameters)))
        return self

    def executemany(self, sql: str, rows: Iterable[Parameters], /) -> Cursor:
        """Run a statement that writes once for each row; all take effect or none, unless a transaction was open."""
        self._check()
        self._take(self.connection._run(lambda: execute_many(self.connection._session, sql, rows)))
        return self

    def executescript(self, sql: str, /) -> Cursor:
        """Commit, then run all statements of a text."""
        self._check()
        self.connection._run(lambda: self.connection._session.script(sql))
        return self

    def fetchone(self) -> Any:  # noqa: ANN401 - what row_factory makes
        """Give the next row, None after the last."""
        return self._one()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Give the next rows, `arraysize` of them unless said otherwise."""
        return self._several(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        """Give all rows that are left."""
        return self._several(None)

    def close(self) -> None:
        """Forget the rows; the cursor cannot be used again."""
        self._close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:  # noqa: ANN401
        self._check()
        if self._next >= len(self._result.rows):
            raise StopIteration
        return self._one()

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
