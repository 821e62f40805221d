"""The change feed: the table `_changes`, written in the transaction of the change, hence replicated, ordered and
durable.

    sequence  INTEGER PRIMARY KEY   rises by one, stays below 2^53
    time_ms   INTEGER               wall clock of the primary
    "table"   TEXT                  which table
    operation TEXT                  insert, update or delete
    key                             the rowid, or for WITHOUT ROWID tables a JSON array of the primary key
    old, new  TEXT                  JSON objects by column name; blobs as {"base64": "..."}, infinite numbers as
                                    {"real": "inf"} or "-inf"; NULL where there is none

SQLite's preupdate hook collects what a statement changes (triggers and cascades included); the rows are inserted
after the statement, at the same savepoint level, so that a rollback takes them along. Off for plain SQL databases; on
for those that the setting names, and for those with records (the table `_collections`).
Not here: who reads the feed, and how long it is kept.

A statement that fails leaves nothing in a database with a feed, not even with OR FAIL or RAISE(FAIL), which keep a part
elsewhere: what is kept must be told.

Of a table with virtual generated columns, and of rows with text that is not UTF-8, the hook cannot tell the values:
their rows of the feed have no `old` and no `new` (and no key in a WITHOUT ROWID table). `changes()` and
`total_changes()` in SQL count the feed's rows too; `last_insert_rowid()` does not see them.
"""

from __future__ import annotations

import math
from typing import Any

import apsw
import msgspec

from pando import limits
from pando.clock import Clock
from pando.errors import SqlError
from pando.store.requests import Value
from pando.store.statements import StatementInfo, says_fail

FEED_TABLE = "_changes"
RECORDS_TABLE = "_collections"
"""A database with this table has records, whose subscribers need the feed."""
UNFED_TABLES = frozenset({FEED_TABLE, "_consumers"})
"""The feed itself, and who has read how far in it (`pando.records.realtime.groups`): each step would be a change."""
_CREATE = f"""CREATE TABLE IF NOT EXISTS {FEED_TABLE} (
  sequence INTEGER PRIMARY KEY,
  time_ms INTEGER NOT NULL,
  "table" TEXT NOT NULL,
  operation TEXT NOT NULL,
  key,
  old TEXT,
  new TEXT
)"""
_INSERT = f'INSERT INTO {FEED_TABLE} (time_ms, "table", operation, key, old, new) VALUES (?, ?, ?, ?, ?, ?)'
_LEAVE_GAP = (
    f"UPDATE {FEED_TABLE} SET sequence = sequence + 2 WHERE sequence = (SELECT max(sequence) FROM {FEED_TABLE})"
)
_HAS_RECORDS = f"SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{RECORDS_TABLE}'"
_SAYS_FAIL = "SELECT sql FROM sqlite_schema WHERE sql LIKE '%fail%'"
_encode = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, frozen=True, gc=False):
    operation: str
    table: str
    rowid: int
    old: tuple[Value, ...] | None
    new: tuple[Value, ...] | None


class _Table(msgspec.Struct, frozen=True):
    columns: tuple[str, ...]
    key: tuple[int, ...]
    has_rowid: bool


def has_records(connection: apsw.Connection) -> bool:
    """Tell whether a database needs a feed, whatever the settings say."""
    return connection.execute(_HAS_RECORDS).fetchone() is not None


class ChangeFeed:
    """Collects row changes of one write connection and writes them down statement by statement."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._events: list[_Event] = []
        self._tables: dict[str, _Table | None] = {}
        self._size = 0
        self._is_writing = False
        self._has_new_schema = False
        self._schema_says_fail: bool | None = None
        self.overflowed = False
        connection.execute(_CREATE)
        connection.preupdate_hook(self._note, id=self)

    def leave_gap(self) -> None:
        """Another program has changed rows without us: who has read up to here must learn that something is missing.

        The newest change gets a later number, with a hole before it: as if changes had been deleted (`realtime.feed`).
        """
        self._connection.execute(_LEAVE_GAP)

    def begin(self) -> None:
        """A transaction begins: what was learnt of tables in the last one may have been rolled back."""
        self.overflowed = False
        self.forget()
        self._has_new_schema = False

    def forget(self) -> None:
        """Something was rolled back; it may have been a change of the schema."""
        if self._has_new_schema:
            self.forget_all()

    def forget_all(self) -> None:
        """Another program may have changed the schema."""
        self._tables.clear()
        self._schema_says_fail = None

    def allows_parts(self, info: StatementInfo) -> bool:
        """Tell whether a statement may run as it is; if not, what it leaves when it fails must be undone.

        SQLite's conflict clause FAIL keeps the rows before the conflict, but does not tell whether there were any.
        """
        if self._schema_says_fail is None:
            texts = self._connection.execute(_SAYS_FAIL)
            self._schema_says_fail = any(says_fail(str(text)) for (text,) in texts)
        return not (info.says_fail or self._schema_says_fail)

    def before_statement(self) -> None:
        """Drop what a failed statement left behind."""
        self._events.clear()
        self._size = 0
        self.overflowed = False

    def after_statement(self, info: StatementInfo) -> None:
        """Write down what the statement changed. Raises apsw.Error, SqlError: then the change must be undone."""
        if self.overflowed:  # the interruption came too late to stop it
            raise too_much()
        if info.changes_schema:
            self.forget_all()
            self._has_new_schema = True
        if not self._events and not info.changes_schema:
            return
        events, self._events, self._size = self._events, [], 0
        now = self._clock.wall_ms()
        last_rowid = self._connection.last_insert_rowid()
        self._is_writing = True
        try:
            if info.changes_schema:
                self._connection.execute(_CREATE)  # in case it was the one that was dropped
            rows = [row for event in events if (row := self._row(event, now)) is not None]
            if rows:
                self._connection.executemany(_INSERT, rows)
        finally:
            self._is_writing = False
        self._connection.set_last_insert_rowid(last_rowid)

    def _note(self, update: Any) -> None:  # noqa: ANN401 - apsw.PreUpdate exists only within the hook
        name = update.table_name
        if self._is_writing or update.database_name != "main" or name in UNFED_TABLES or name.startswith("sqlite_"):
            return
        operation = update.op
        rowid = update.rowid_new if operation == "INSERT" else update.rowid
        try:
            old, new = update.old, update.new
        except (apsw.RangeError, UnicodeDecodeError):
            old = new = None
        self._size += _size_of(old) + _size_of(new)
        if len(self._events) >= limits.FEED_EVENTS_MAX or self._size > limits.FEED_EVENTS_BYTES_MAX:
            self.overflowed = True
            self._events.clear()
            self._connection.interrupt()  # takes the statement back; the owner looks at `overflowed`
            return
        self._events.append(_Event(operation.lower(), name, rowid, old, new))

    def _row(self, event: _Event, now: int) -> tuple[Value, ...] | None:
        table = self._describe(event.table)
        if table is None:
            return None
        image = event.new if event.new is not None else event.old
        key: Value = event.rowid
        if not table.has_rowid:
            key = None if image is None else _encode([_plain(image[index]) for index in table.key]).decode()
        return now, event.table, event.operation, key, _image(table, event.old), _image(table, event.new)

    def _describe(self, name: str) -> _Table | None:
        """Give the columns of a table; None for shadow tables of virtual tables: their rows are nobody's records."""
        if name not in self._tables:
            kind = self._connection.execute(
                "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
            ).fetchone()
            if kind is None or kind[0] == "shadow":
                self._tables[name] = None
            else:
                columns = self._connection.execute("SELECT name, pk FROM pragma_table_xinfo(?)", (name,)).fetchall()
                key = sorted((pk, index) for index, (_, pk) in enumerate(columns) if pk)
                self._tables[name] = _Table(
                    tuple(str(column) for column, _ in columns), tuple(index for _, index in key), not kind[1]
                )
        return self._tables[name]


def too_much() -> SqlError:
    """Make the error for a statement that changes more than is held in memory."""
    most = limits.FEED_EVENTS_MAX
    return SqlError(
        f"one statement changes more than {most} rows, or too large ones, for a change feed; split it",
        code="SQLITE_TOOBIG",
    )


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return {"base64": value}
    if isinstance(value, float) and math.isinf(value):
        return {"real": str(value)}
    return value


def _size_of(row: tuple[Value, ...] | None) -> int:
    """About how many bytes of memory the long values of a row take."""
    return sum(len(value) for value in row if isinstance(value, (str, bytes))) if row else 0


def _image(table: _Table, row: tuple[Value, ...] | None) -> str | None:
    if row is None:
        return None
    return _encode({name: _plain(value) for name, value in zip(table.columns, row, strict=False)}).decode()
