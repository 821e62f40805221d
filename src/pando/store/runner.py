"""Runs requests on one apsw connection, strictly in order, and translates apsw's errors at this one boundary.

Who owns the connection says through a `TransactionControl` what BEGIN, COMMIT and the rest mean: really run
(`PlainControl`), or emulated inside a group transaction. Time limits and cancellation work through one progress
handler. Not here: queues, threads, durability (see `pando.store.writer`), JSON (see `pando.sql.messages`).

Statements are atomic (SQLite's doing). One that returns rows of its own changes (RETURNING) runs in a savepoint, since
its rows may turn out unreadable or too many after the changes were made.
"""

from __future__ import annotations

import enum
import errno
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import apsw
import msgspec

from pando import limits
from pando.clock import Clock
from pando.errors import PandoError, ResponseTooLarge, SqlError, invariant
from pando.store.arguments import Args, bad_args, bind
from pando.store.requests import (
    And,
    Autocommit,
    Batch,
    BatchResult,
    Condition,
    Describe,
    Described,
    Done,
    Execute,
    Failure,
    GetAutocommit,
    IsAutocommit,
    Not,
    Or,
    Request,
    Result,
    Statement,
    StatementResult,
    StepError,
    StepOk,
    Value,
)
from pando.store.requests import Sequence as SequenceRequest
from pando.store.statements import CONTROL_KINDS, StatementInfo, StatementKind, Statements, Verb, sqlite_failure

WHOLE_SAVEPOINT: Final = '"pando whole"'


class Limit(enum.Enum):
    """Why a run was stopped."""

    BUDGET = "budget"
    """The deadline given to `run`."""
    STATEMENT_TIME = "statement time"
    """One statement took longer than the options allow."""
    CANCELLED = "cancelled"


class Interrupted(PandoError):
    """A statement was stopped by the progress handler; if it wrote inside a transaction, that is rolled back."""

    code = "INTERRUPTED"

    def __init__(self, limit: Limit, limit_s: float = math.inf) -> None:
        super().__init__(f"the run was stopped: {limit.value}")
        self.limit = limit
        self.limit_s = limit_s
        """How long one statement may run."""

    @property
    def is_cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        return self.limit is Limit.CANCELLED


class TransactionLost(PandoError):
    """A failing statement took the open transaction with it: RAISE(ROLLBACK), OR ROLLBACK, disk full, I/O error."""

    code = "TRANSACTION_LOST"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class TransactionControl(Protocol):
    """What the owner of the connection makes of transactions.

    Methods may raise apsw.Error and SqlError, both become failures; anything else passes through `run`.
    """

    goes_on_after_loss: bool
    """A lost transaction is just a failure, later requests run without it, as in SQLite; else `run` raises."""

    def is_autocommit(self) -> bool:
        """Tell whether the client has no transaction open."""
        ...

    def begin(self, info: StatementInfo) -> None:
        """Do BEGIN; `info.begin_mode` says how."""
        ...

    def commit(self, info: StatementInfo) -> None:
        """Do COMMIT."""
        ...

    def rollback(self, info: StatementInfo) -> None:
        """Do ROLLBACK."""
        ...

    def savepoint(self, info: StatementInfo, sql: str) -> None:
        """Do SAVEPOINT, RELEASE or ROLLBACK TO, as `info.kind` says; `sql` is the statement."""
        ...

    def before(self, info: StatementInfo) -> None:
        """Called before each statement that is no transaction control and does something."""
        ...

    def after(self, info: StatementInfo) -> None:
        """Called after each of these that succeeded, unless it only read."""
        ...

    def allows_parts(self, info: StatementInfo) -> bool:
        """Tell whether what a failing statement keeps (OR FAIL) may stay, as in SQLite; asked for writes only."""
        ...


class PlainControl:
    """Transactions as SQLite has them."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        feed: Callable[[StatementInfo], None] | None = None,
        goes_on_after_loss: bool = False,
    ) -> None:
        self._connection = connection
        self._feed = feed
        self.goes_on_after_loss = goes_on_after_loss

    def is_autocommit(self) -> bool:
        """Tell whether no transaction is open."""
        return not self._connection.in_transaction

    def begin(self, info: StatementInfo) -> None:
        """Run BEGIN."""
        self._connection.execute(info.sql)

    def commit(self, info: StatementInfo) -> None:
        """Run COMMIT."""
        self._connection.execute(info.sql)

    def rollback(self, info: StatementInfo) -> None:
        """Run ROLLBACK."""
        self._connection.execute(info.sql)

    def savepoint(self, info: StatementInfo, sql: str) -> None:
        """Run SAVEPOINT, RELEASE or ROLLBACK TO."""
        self._connection.execute(sql)

    def before(self, info: StatementInfo) -> None:
        """Allow everything."""

    def after(self, info: StatementInfo) -> None:
        """Let the change feed, if there is one, write down what the statement changed."""
        if self._feed is not None:
            self._feed(info)

    def allows_parts(self, info: StatementInfo) -> bool:
        """Let SQLite decide."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """Bounds of a run."""

    statement_time_s: float = limits.STATEMENT_TIME_S
    progress_steps: int = limits.PROGRESS_STEPS
    result_bytes_max: int = limits.RESPONSE_SIZE_BYTES_MAX
    """Rows of one statement, about as long as they are in JSON."""
    run_bytes_max: int = limits.RUN_SIZE_BYTES_MAX
    """Rows of all statements of a run."""


_ROWS_FIRST = 64
"""Rows taken before their size is looked at."""
_ROWS_STEP_MAX = 4096
_CELL_BYTES = 24
"""JSON around a value: `{"type":"integer","value":""},` is a little longer."""


_measure = msgspec.msgpack.Encoder(decimal_format="number").encode

_READ: Final = StatementKind.READ


class Runner:
    """Executes requests on one connection. One thread at a time."""

    def __init__(
        self,
        connection: apsw.Connection,
        statements: Statements,
        clock: Clock,
        options: RunnerOptions | None = None,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._monotonic = clock.monotonic
        self._options = options or RunnerOptions()
        self._cursor = connection.cursor()
        self._bytes_left = self._options.run_bytes_max
        self._deadline = math.inf
        self._statement_deadline = math.inf
        self._is_cancelled: Callable[[], bool] | None = None
        self._hit: Limit | None = None
        self._scoped: dict[str, Any] = {}
        self._statement_time_s = self._options.statement_time_s
        self.size_bytes_max: int | None = None
        """How large the file may become, as far as it is bounded by configuration: for what is told of a full one."""
        self._watches_schema = statements.watches_schema
        connection.set_progress_handler(self._look, self._options.progress_steps, id=self)

    def run(
        self,
        requests: Sequence[Request],
        control: TransactionControl,
        *,
        deadline: float = math.inf,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> list[Result]:
        """Run requests in order, errors as results. `deadline` is on the clock's monotonic scale.

        Raises Interrupted, TransactionLost, and whatever else the control raises. `is_cancelled` is asked while
        statements run and may be set from another thread.
        """
        self._deadline, self._is_cancelled, self._hit = deadline, is_cancelled, None
        self._bytes_left = self._options.run_bytes_max
        if self._statements.is_suspect:
            self._statements.check()
        try:
            results: list[Result] = []
            for request in requests:
                if type(request) is Execute:
                    results.append(self._statement(request.statement, control))
                else:
                    results.append(self._other(request, control))
            return results
        finally:
            self._deadline = self._statement_deadline = math.inf
            self._is_cancelled = None
            if self._scoped:
                self._put_back()

    # -- time --

    def _look(self) -> bool:
        """Stop the running statement if a limit is hit; called by SQLite every `progress_steps` steps."""
        now = self._monotonic()
        if now >= self._statement_deadline:
            self._hit = Limit.STATEMENT_TIME
        elif now >= self._deadline:
            self._hit = Limit.BUDGET
        elif self._is_cancelled is not None and self._is_cancelled():
            self._hit = Limit.CANCELLED
        else:
            return False
        return True

    # -- statements --

    def _statement(self, statement: Statement, control: TransactionControl) -> StatementResult | Failure:
        """Run one statement: the hot path."""
        was_open = self._connection.in_transaction
        try:
            started = self._monotonic()
            self._statement_deadline = started + self._statement_time_s
            info = self._statements.get(statement.sql)
            has_args = info.parameters or statement.args or statement.named_args
            args = bind(info.parameters, statement) if has_args else ()
            if info.kind is not _READ:
                return self._change(info, args, statement.want_rows, control, started)
            control.before(info)
            if info.reads is None and self._watches_schema and self._statements.refresh():
                info = self._statements.get(statement.sql)  # some PRAGMAs never look whether the schema is another
            rows, count = self._rows(info, args, statement.want_rows)
            if self._watches_schema and self._statements.schema_moved():
                info = self._statements.get(statement.sql)
                rows, count = self._rows(info, args, statement.want_rows)
            duration_ms = (self._monotonic() - started) * 1000.0
            return StatementResult(info.columns, rows, 0, None, count, 0, duration_ms)
        except (SqlError, apsw.Error, ResponseTooLarge) as error:
            return self._failure(error, control, was_open, statement.sql)

    def _change(
        self, info: StatementInfo, args: Args, want_rows: bool, control: TransactionControl, started: float
    ) -> StatementResult:
        """Run a statement that does more than read."""
        kind = info.kind
        if kind in CONTROL_KINDS:
            self._control(info, control)
            return StatementResult((), [], duration_ms=(self._monotonic() - started) * 1000.0)
        if kind is StatementKind.NOTHING:
            return StatementResult(info.columns, list(info.answer) if want_rows else [])
        control.before(info)
        if info.scoped_pragma:
            self._remember(info.scoped_pragma)
        rows: list[tuple[Value, ...]] = []
        count = 0
        allows_parts = info.verb is Verb.OTHER or control.allows_parts(info)
        if info.columns or not allows_parts:
            rows, count = self._whole(info, args, want_rows, allows_parts)
        else:
            self._start(info, args)
        changed, rowid = 0, None
        if info.verb is not Verb.OTHER:
            changed = self._connection.changes()
            if info.verb is Verb.INSERT:
                rowid = self._connection.last_insert_rowid()
        elif info.changes_schema:
            self._statements.schema_changed_here()
        control.after(info)
        duration_ms = (self._monotonic() - started) * 1000.0
        return StatementResult(info.columns, rows, changed, rowid, count, changed, duration_ms)

    def _control(self, info: StatementInfo, control: TransactionControl) -> None:
        kind = info.kind
        if kind is StatementKind.BEGIN:
            control.begin(info)
        elif kind is StatementKind.COMMIT:
            control.commit(info)
        elif kind is StatementKind.ROLLBACK:
            control.rollback(info)
        else:
            control.savepoint(info, info.sql)
        if self._statements.is_suspect:
            self._statements.refresh()

    def _start(self, info: StatementInfo, args: Args) -> apsw.Cursor:
        """Bind and step once; raises apsw.Error, SqlError for values that SQLite cannot hold."""
        try:
            return self._cursor.execute(info.sql, args)
        except OverflowError as error:
            raise bad_args("an integer does not fit into 64 bits") from error
        except UnicodeEncodeError as error:
            raise bad_args("a text holds a lone surrogate, which UTF-8 cannot encode") from error

    def _rows(self, info: StatementInfo, args: Args, want_rows: bool) -> tuple[list[tuple[Value, ...]], int]:
        """Step a statement to its end; gives its rows and how many there were."""
        cursor: Any = self._start(info, args)
        try:
            if not want_rows:
                return [], sum(1 for _ in cursor)
            rows = list(islice(cursor, _ROWS_FIRST))
            if rows:
                self._take(rows, len(info.columns), cursor)
            return rows, len(rows)
        except UnicodeDecodeError as error:
            self._drop_cursor()
            raise _not_text() from error
        except (ResponseTooLarge, apsw.Error):
            self._drop_cursor()
            raise

    def _drop_cursor(self) -> None:
        """Leave a statement in the middle: until it is reset it would hold its snapshot."""
        self._cursor.close(force=True)
        self._cursor = self._connection.cursor()

    def _take(self, rows: list[tuple[Value, ...]], columns: int, cursor: Any) -> None:  # noqa: ANN401
        """Count the size of the first rows, then fetch the others in steps fitted to what is left of the limit."""
        allowed = min(self._options.result_bytes_max, self._bytes_left)
        size = len(_measure(rows)) + _CELL_BYTES * columns * len(rows)
        chunk, step = rows, _ROWS_FIRST
        while size <= allowed and len(chunk) == step:
            step = max(1, min(_ROWS_STEP_MAX, step * 2, (allowed - size) * len(rows) // size + 1))
            chunk = list(islice(cursor, step))
            size += len(_measure(chunk)) + _CELL_BYTES * columns * len(chunk)
            rows.extend(chunk)
        if size > allowed:
            raise ResponseTooLarge(
                f"the rows are larger than {allowed} bytes together; ask for fewer with LIMIT, or for fewer columns"
            )
        self._bytes_left -= size

    def _whole(
        self, info: StatementInfo, args: Args, want_rows: bool, allows_parts: bool
    ) -> tuple[list[tuple[Value, ...]], int]:
        """Run a statement that changes and gives rows, so that neither happens without the other.

        A conflict happens before the first row: SQLite has undone then what it must, and what it kept may be allowed.
        """
        self._connection.execute(f"SAVEPOINT {WHOLE_SAVEPOINT}")
        try:
            result = self._rows(info, args, want_rows)
        except (SqlError, apsw.Error, ResponseTooLarge) as error:
            self._end_whole(keep=allows_parts and isinstance(error, apsw.ConstraintError))
            raise
        self._end_whole(keep=True)
        return result

    def _end_whole(self, keep: bool) -> None:
        """Keep or undo; what cannot be kept, for a foreign key, is undone and raises apsw.ConstraintError."""
        execute = self._connection.execute
        if not self._connection.in_transaction:
            return
        if keep:
            try:
                execute(f"RELEASE {WHOLE_SAVEPOINT}")
            except apsw.Error:
                self._end_whole(keep=False)
                raise
            return
        execute(f"ROLLBACK TO {WHOLE_SAVEPOINT}")
        execute(f"RELEASE {WHOLE_SAVEPOINT}")

    # -- failures and settings --

    def _failure(
        self,
        error: SqlError | apsw.Error | ResponseTooLarge,
        control: TransactionControl,
        was_open: bool,
        sql: str,
    ) -> Failure:
        """Translate; raises Interrupted, or TransactionLost if the open transaction is gone."""
        if isinstance(error, apsw.InterruptError):
            raise Interrupted(self._hit or Limit.CANCELLED, self._statement_time_s) from error
        failure = failure_of(self._translated(error, sql) if isinstance(error, apsw.Error) else error)
        if was_open and not self._connection.in_transaction:
            self._statements.expire()
            if not control.goes_on_after_loss:
                raise TransactionLost(failure) from error
        return failure

    def _translated(self, error: apsw.Error, sql: str) -> SqlError:
        if isinstance(error, apsw.SQLError) and getattr(error, "error_offset", -1) < 0 and self._statements.refresh():
            try:  # what was prepared before the schema changed fails without the place; prepared anew it has one
                self._statements.get(sql)
            except SqlError as anew:
                return anew
        size, is_full = self.size_bytes_max, isinstance(error, apsw.FullError)
        if size is None or not is_full or self._connection.system_errno == errno.ENOSPC:
            return sqlite_failure(error)
        return SqlError(
            f"the database has reached its maximum size of {size} bytes (max_db_size): delete something, or have an "
            "administrator raise it",
            code="SQLITE_FULL",
            extended_code="SQLITE_FULL",
        )

    def _remember(self, name: str) -> None:
        if name not in self._scoped:
            self._scoped[name] = self._connection.pragma(name)

    def _put_back(self) -> None:
        """Undo settings of the connection; inside a transaction SQLite would ignore that, so later then."""
        if not self._connection.in_transaction:
            while self._scoped:
                self._connection.pragma(*self._scoped.popitem())

    # -- other requests --

    def _other(self, request: Request, control: TransactionControl) -> Result:
        if isinstance(request, Batch):
            return self._batch(request, control)
        if isinstance(request, SequenceRequest):
            return self._sequence(request, control)
        if isinstance(request, Describe):
            return self._describe(request, control)
        invariant(isinstance(request, GetAutocommit), "every kind of request is known", request=type(request))
        return Autocommit(control.is_autocommit())

    def _batch(self, batch: Batch, control: TransactionControl) -> BatchResult:
        done = BatchResult([], [])
        for step in batch.steps:
            outcome: StatementResult | Failure | None = None
            if step.condition is None or _holds(step.condition, done, control):
                outcome = self._statement(step.statement, control)
            done.results.append(outcome if isinstance(outcome, StatementResult) else None)
            done.errors.append(outcome if isinstance(outcome, Failure) else None)
        return done

    def _sequence(self, request: SequenceRequest, control: TransactionControl) -> Done | Failure:
        texts = self._statements.split(request.sql)
        wrong = self._first_that_is_no_sql(texts)
        if wrong is not None:
            return wrong
        for sql in texts:
            result = self._statement(Statement(sql, want_rows=False), control)
            if isinstance(result, Failure):
                return result
        return Done()

    def _first_that_is_no_sql(self, texts: Sequence[str]) -> Failure | None:
        """Look for a syntax error before anything runs; of a script so long that it would cost twice, not."""
        if len(texts) > limits.STATEMENTS_CACHED_MAX:
            return None
        for sql in texts:
            try:
                self._statements.get(sql)
            except SqlError as error:
                if error.code == "SQL_PARSE_ERROR":
                    return failure_of(error)
            except apsw.Error:
                return None  # the file fails: that is told when the statement's turn has come
        return None

    def _describe(self, request: Describe, control: TransactionControl) -> Described | Failure:
        was_open = self._connection.in_transaction
        try:
            if self._watches_schema:
                self._statements.refresh()  # nothing runs that would make SQLite look whether the schema is another
            info = self._statements.get(request.sql)
        except (SqlError, apsw.Error) as error:
            return self._failure(error, control, was_open, request.sql)
        return Described(info.parameters, info.columns, info.is_explain, info.is_readonly)


def failure_of(error: PandoError) -> Failure:
    """Give the result that tells a client of an error."""
    return Failure(error.message, error.code, getattr(error, "extended_code", None))


def _not_text() -> SqlError:
    return SqlError(
        "SQLite error: a text value is not valid UTF-8; select it with CAST(... AS BLOB)",
        code="SQLITE_MISMATCH",
        extended_code="SQLITE_MISMATCH",
    )


def _holds(condition: Condition, done: BatchResult, control: TransactionControl) -> bool:
    """Evaluate a step's condition. `error(n)` is "not ok(n)", also for a skipped step, as sqld has it."""
    if isinstance(condition, StepOk):
        return _is_ok(condition.step, done)
    if isinstance(condition, StepError):
        return not _is_ok(condition.step, done)
    if isinstance(condition, Not):
        return not _holds(condition.condition, done, control)
    if isinstance(condition, And):
        return all(_holds(each, done, control) for each in condition.conditions)
    if isinstance(condition, Or):
        return any(_holds(each, done, control) for each in condition.conditions)
    invariant(isinstance(condition, IsAutocommit), "every kind of condition is known", condition=type(condition))
    return control.is_autocommit()


def _is_ok(step: int, done: BatchResult) -> bool:
    invariant(0 <= step < len(done.results), "a condition names an earlier step", step=step)
    return done.results[step] is not None
