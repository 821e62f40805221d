"""The change feed: the table `_changes`, written in the transaction of the change, hence replicated, ordered and durable.

    sequence  INTEGER PRIMARY KEY   rises by one, stays below 2^53
    time_ms   INTEGER               wall clock of the primary
    "table"   TEXT                  which table
    operation TEXT                  insert, update or delete
    key                             the rowid, or for WITHOUT ROWID tables a JSON array of the primary key
    old, new  TEXT                  JSON objects by column name; blobs as {"base64": "..."}; NULL where there is none

SQLite's preupdate hook collects what a statement changes (triggers and cascades included); the rows are inserted after the
statement, at the same savepoint level, so that a rollback takes them along. Off for plain SQL databases. Not here:
who reads the feed, and how long it is kept.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from pando import limits
from pando.clock import Clock
from pando.store.requests import Value
from pando.store.statements import StatementInfo

FEED_TABLE = "_changes"
_CREATE = f"""CREATE TABLE IF NOT EXISTS {FEED_TABLE} (
  sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, "table" TEXT NOT NULL, operation TEXT NOT NULL, key, old TEXT, new TEXT)"""
_INSERT = f'INSERT INTO {FEED_TABLE} (time_ms, "table", operation, key, old, new) VALUES (?, ?, ?, ?, ?, ?)'
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


class ChangeFeed:
    """Collects row changes of one write connection and writes them down statement by statement."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._events: list[_Event] = []
        self._tables: dict[str, _Table | None] = {}
        self._is_writing = False
        self.overflowed = False
        connection.execute(_CREATE)
        connection.preupdate_hook(self._note, id=self)

    def before_statement(self) -> None:
        """Drop what a failed statement left behind."""
        self._events.clear()
        self.overflowed = False

    def after_statement(self, info: StatementInfo) -> None:
        """Write down what the statement changed."""
        if info.changes_schema:
            self._tables.clear()
        if not self._events:
            return
        events, self._events = self._events, []
        now = self._clock.wall_ms()
        rows = [row for event in events if (row := self._row(event, now)) is not None]
        self._is_writing = True
        try:
            self._connection.executemany(_INSERT, rows)
        finally:
            self._is_writing = False

    def _note(self, update: Any) -> None:  # noqa: ANN401 - apsw.PreUpdate exists only within the hook
        if self._is_writing or update.database_name != "main" or update.table_name.startswith("sqlite_"):
            return
        if len(self._events) >= limits.FEED_EVENTS_MAX:
            self.overflowed = True
            self._connection.interrupt()  # takes the statement back; the owner looks at `overflowed`
            return
        operation = update.op
        self._events.append(
            _Event(
                operation.lower(),
                update.table_name,
                update.rowid_new if operation == "INSERT" else update.rowid,
                None if operation == "INSERT" else update.old,
                None if operation == "DELETE" else update.new,
            )
        )

    def _row(self, event: _Event, now: int) -> tuple[Value, ...] | None:
        table = self._describe(event.table)
        if table is None:
            return None
        image = event.new if event.new is not None else event.old or ()
        key: Value = event.rowid
        if not table.has_rowid:
            key = _encode([_plain(image[index]) for index in table.key]).decode()
        return now, event.table, event.operation, key, _image(table, event.old), _image(table, event.new)

    def _describe(self, name: str) -> _Table | None:
        """Give the columns of a table; None for the shadow tables of virtual tables, whose rows are nobody's records."""
        if name not in self._tables:
            kind = self._connection.execute(
                "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
            ).fetchone()
            if kind is None or kind[0] == "shadow":
                self._tables[name] = None
            else:
                columns = self._connection.execute("SELECT name, pk FROM pragma_table_info(?)", (name,)).fetchall()
                key = sorted((pk, index) for index, (_, pk) in enumerate(columns) if pk)
                self._tables[name] = _Table(
                    tuple(str(column) for column, _ in columns), tuple(index for _, index in key), not kind[1]
                )
        return self._tables[name]


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return {"base64": value}
    return value


def _image(table: _Table, row: tuple[Value, ...] | None) -> str | None:
    if row is None:
        return None
    return _encode({name: _plain(value) for name, value in zip(table.columns, row, strict=False)}).decode()
