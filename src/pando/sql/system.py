"""The system database `_pando`: configurations, tokens and the like, replicated like any other database.

It is made on the primary by the first write. Each web process keeps what it needs of it in memory (`Snapshot`) and
reads it again when its position has moved, so that a request costs a dictionary lookup and reading makes nothing. To
add a table, put its text into `TABLES`; every write makes those that are missing. Not here: what the values mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pando.errors import CorruptionError, DatabaseExists, InternalError, PandoError, SqlError, UnknownDatabase
from pando.log import EventLog
from pando.sql.calls import Call
from pando.sql.config import NO_CONFIG, DatabaseConfig, decode_config
from pando.sql.notices import Notices
from pando.sql.service import SqlService
from pando.store.requests import (
    Batch,
    BatchResult,
    Execute,
    Failure,
    IsAutocommit,
    Not,
    Statement,
    StatementResult,
    Step,
    StepOk,
    Value,
)
from pando.types import SYSTEM_DATABASE

TABLES: Final[Mapping[str, str]] = {
    "databases": (
        "CREATE TABLE IF NOT EXISTS databases("
        "name TEXT NOT NULL PRIMARY KEY, config TEXT NOT NULL DEFAULT '{}', changed INTEGER NOT NULL) WITHOUT ROWID"
    ),
    "tokens": (
        "CREATE TABLE IF NOT EXISTS tokens("
        "id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, rights TEXT NOT NULL, databases TEXT, "
        "created INTEGER NOT NULL, expires INTEGER, revoked INTEGER) WITHOUT ROWID"
    ),
    "generations": (
        "CREATE TABLE IF NOT EXISTS generations("
        "database TEXT NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL, txid INTEGER NOT NULL, "
        "checksum INTEGER NOT NULL, is_first INTEGER NOT NULL, PRIMARY KEY(database, number)) WITHOUT ROWID"
    ),
    "log_ids": (
        "CREATE TABLE IF NOT EXISTS log_ids(database TEXT NOT NULL PRIMARY KEY, log_id TEXT NOT NULL) WITHOUT ROWID"
    ),
}
"""Text of each table by its name; times are milliseconds since 1970, `databases` of a token a JSON list (null: all)."""

POLL_S: Final = 2.0
"""Between two looks when no notice has come; notices of commits come within milliseconds."""
PAGE_ROWS: Final = 2000
"""Rows that are read at once."""


class SystemStore(Protocol):
    """What is needed of the node's links."""

    async def create_database(self, name: str) -> None:
        """Make an empty database on the primary; raises DatabaseExists."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the system database says, as far as requests need it."""

    configs: Mapping[str, DatabaseConfig]
    revoked: frozenset[str]
    """Ids of tokens that hold no more."""


EMPTY: Final = Snapshot({}, frozenset())


class SystemDatabase:
    """The system database as one process sees it."""

    def __init__(
        self, service: SqlService, store: SystemStore, notices: Notices, log: EventLog, *, poll_s: float = POLL_S
    ) -> None:
        self._service = service
        self._store = store
        self._notices = notices
        self._log = log
        self._poll_s = poll_s
        self._at: object = None
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()
        self._listeners: list[Callable[[Snapshot], None]] = []
        self.snapshot: Snapshot = EMPTY

    # -- what requests ask --

    def config(self, database: str) -> DatabaseConfig:
        """Give what is configured for a database."""
        return self.snapshot.configs.get(database, NO_CONFIG)

    def subscribe(self, listener: Callable[[Snapshot], None]) -> None:
        """Have a function called with each new snapshot, and with the present one now."""
        self._listeners.append(listener)
        listener(self.snapshot)

    async def rows(self, sql: str, *args: Value) -> list[tuple[Value, ...]]:
        """Read as this node shows it; nothing if database or table are not there yet. Raises PandoError."""
        try:
            (result,) = await self._service.read(SYSTEM_DATABASE, [Execute(Statement(sql, args))])
        except UnknownDatabase:
            return []
        if isinstance(result, Failure):
            if "no such table" in result.message:
                return []
            raise SqlError(result.message, code=result.code)
        if not isinstance(result, StatementResult):
            raise InternalError("a statement gives rows")
        return result.rows

    # -- writing --

    async def write(self, statements: Sequence[Statement], durability: str = "") -> None:
        """Run statements in one transaction, on the primary wherever this is called; then what they say holds here.

        Makes the database and its tables if need be. Raises PandoError: nothing has changed, or OutcomeUnknown.
        """
        batch = _transaction([*(Statement(text, want_rows=False) for text in TABLES.values()), *statements])
        call = Call(SYSTEM_DATABASE, durability=durability)
        try:
            results, bookmark = await self._service.write([batch], call)
        except UnknownDatabase:
            with contextlib.suppress(DatabaseExists):  # somebody else was faster
                await self._store.create_database(SYSTEM_DATABASE)
            results, bookmark = await self._service.write([batch], call)
        _raise_for(results[0])
        if bookmark is not None:
            await self._service.until_shown(bookmark)
        await self.refresh()

    # -- keeping up --

    def _wake(self, _notice: object) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Keep the snapshot up to date, for ever."""
        self._notices.listen(SYSTEM_DATABASE, self._wake)
        try:
            while True:
                self._woken.clear()
                with contextlib.suppress(PandoError):  # the node is not ready: there is a next time
                    await self.look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._poll_s)
        finally:
            self._notices.unlisten(SYSTEM_DATABASE, self._wake)

    async def look(self) -> None:
        """Read anew if the database has moved since the last time. Raises PandoError."""
        seen = self._service.seen(SYSTEM_DATABASE)
        if seen is None or seen != self._at:
            await self.refresh()

    async def refresh(self) -> None:
        """Read anew. Raises PandoError; then what was known holds on."""
        async with self._reading:
            seen = self._service.seen(SYSTEM_DATABASE)  # before reading: never newer than what is read
            found = Snapshot(await self._configs(), await self._revoked())
            self._at = seen
            if found != self.snapshot:
                self.snapshot = found
                for listener in self._listeners:
                    listener(found)

    async def _configs(self) -> dict[str, DatabaseConfig]:
        found: dict[str, DatabaseConfig] = {}
        after = ""
        while True:
            rows = await self.rows(
                "SELECT name, config FROM databases WHERE name > ? ORDER BY name LIMIT ?", after, PAGE_ROWS
            )
            for name, text in rows:
                after = str(name)
                try:
                    found[after] = decode_config(str(text))
                except CorruptionError as error:
                    self._log.emit("config.unreadable", database=after, error=error.message)
                    found[after] = self.snapshot.configs.get(after, NO_CONFIG)
            if len(rows) < PAGE_ROWS:
                return found

    async def _revoked(self) -> frozenset[str]:
        found: set[str] = set()
        after = ""
        while True:
            rows = await self.rows(
                "SELECT id FROM tokens WHERE revoked IS NOT NULL AND id > ? ORDER BY id LIMIT ?", after, PAGE_ROWS
            )
            found.update(str(row[0]) for row in rows)
            if len(rows) < PAGE_ROWS:
                return frozenset(found)
            after = str(rows[-1][0])


def _transaction(statements: Sequence[Statement]) -> Batch:
    """Make a batch that does all of it or nothing."""
    steps = [Step(Statement("BEGIN IMMEDIATE"))]
    for statement in [*statements, Statement("COMMIT")]:
        steps.append(Step(statement, StepOk(len(steps) - 1)))
    steps.append(Step(Statement("ROLLBACK"), Not(IsAutocommit())))
    return Batch(tuple(steps))


def _raise_for(result: object) -> None:
    if isinstance(result, Failure):
        raise SqlError(result.message, code=result.code)
    if isinstance(result, BatchResult):
        failure = next((error for error in result.errors if error is not None), None)
        if failure is not None:
            raise SqlError(failure.message, code=failure.code)
