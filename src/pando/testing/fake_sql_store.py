"""A store for tests of web processes: real SQLite files and transactions, no links, no log, no other process.

`FakeSqlStore` is a `StoreClient` and the `Positions` of one node. On a replica the readers have copies that change
only when `replicate` is called. Faults are switched on by attributes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from pando.clock import Clock
from pando.errors import BookmarkTimeout, PandoError, UnknownDatabase
from pando.store.protocol import Opened, Ran
from pando.store.requests import Request, Result
from pando.store.runner import PlainControl, Runner
from pando.store.statements import Statements


@dataclass(slots=True)
class FakeDatabase:
    """One database: the primary's file, and the file that this node's readers see."""

    slot: int
    primary_path: str
    reader_path: str
    writer: apsw.Connection
    runner: Runner
    epoch: int = 1
    txid: int = 0
    visible: int = 0
    generation: int = 1


@dataclass(slots=True)
class RunRecord:
    """One call of `run`."""

    database: str
    session: int
    requests: tuple[Request, ...]
    durability: str
    read_only: bool
    is_patient: bool


@dataclass(slots=True)
class _Session:
    connection: apsw.Connection
    runner: Runner


@dataclass
class FakeSqlStore:
    """See the module. `before_run` is awaited before each run, `on_wait` called when somebody waits for a position."""

    directory: Path
    clock: Clock
    is_primary: bool = True
    generation: int = 1
    generation_soon: int = 0
    """The link that there is once somebody waits for one."""
    fail: PandoError | None = None
    fail_open: PandoError | None = None
    before_run: asyncio.Event | None = None
    on_wait: Callable[[str, int, int], None] | None = None
    runs: list[RunRecord] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    opened: int = 0
    heads: dict[int, tuple[int, int]] = field(default_factory=dict)
    _databases: dict[str, FakeDatabase] = field(default_factory=dict)
    _sessions: dict[int, _Session] = field(default_factory=dict)

    def create(self, name: str, script: str = "") -> FakeDatabase:
        """Make a database, with some content."""
        primary = str(self.directory / f"{name}.primary.db")
        writer = self._writer(primary)
        reader = primary if self.is_primary else str(self.directory / f"{name}.replica.db")
        database = FakeDatabase(len(self._databases), primary, reader, writer, self._runner(writer))
        self._databases[name] = database
        if script:
            writer.execute(script)
            database.txid += 1
        self.replicate(name)
        return database

    def database(self, name: str) -> FakeDatabase:
        """Give a database; raises UnknownDatabase."""
        try:
            return self._databases[name]
        except KeyError:
            raise UnknownDatabase(f"database {name!r} does not exist") from None

    def replicate(self, name: str) -> None:
        """Let the readers of this node see what the primary has."""
        database = self.database(name)
        if database.reader_path != database.primary_path:
            target = apsw.Connection(database.reader_path)
            target.pragma("journal_mode", "wal")
            with target.backup("main", database.writer, "main") as backup:
                backup.step(-1)
            target.close()
        database.visible = database.txid

    def close(self) -> None:
        """Close all connections."""
        for session in list(self._sessions):
            self.end_session(session)
        for database in self._databases.values():
            database.writer.close()

    def _writer(self, path: str) -> apsw.Connection:
        connection = apsw.Connection(path)
        connection.set_busy_timeout(0)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "off")
        connection.pragma("foreign_keys", 1)
        return connection

    def _runner(self, connection: apsw.Connection) -> Runner:
        return Runner(connection, Statements(connection), self.clock)

    # -- StoreClient ----------------------------------------------------------------------------------------------

    async def until_writer(self) -> None:
        """Let the link be there that comes soon."""
        self.generation = self.generation or self.generation_soon

    async def run(
        self,
        database: str,
        session: int,
        requests: Sequence[Request],
        durability: str,
        read_only: bool,
        is_patient: bool = False,
    ) -> Ran:
        """Run requests on the primary's file; a session that leaves a transaction open keeps its connection."""
        if self.before_run is not None:
            await self.before_run.wait()
        self.runs.append(RunRecord(database, session, tuple(requests), durability, read_only, is_patient))
        if self.fail is not None:
            raise self.fail
        known = self.database(database)
        held = self._sessions.pop(session, None)
        if held is None and session:
            connection = self._writer(known.primary_path)
            held = _Session(connection, self._runner(connection))
        runner, connection = (held.runner, held.connection) if held else (known.runner, known.writer)
        results = self._execute(known, runner, connection, requests)
        is_autocommit = not connection.in_transaction
        if held is not None and not is_autocommit:
            self._sessions[session] = held
        elif held is not None:
            held.connection.close(True)
        elif not is_autocommit:
            connection.execute("ROLLBACK")
        return Ran(0, results, known.epoch, known.txid, is_autocommit or not session)

    def _execute(
        self, known: FakeDatabase, runner: Runner, connection: apsw.Connection, requests: Sequence[Request]
    ) -> list[Result]:
        before = known.writer.execute("PRAGMA data_version").fetchall(), known.writer.total_changes()
        results = runner.run(requests, PlainControl(connection, goes_on_after_loss=True))
        after = known.writer.execute("PRAGMA data_version").fetchall(), known.writer.total_changes()
        if before != after:
            known.txid += 1
            if known.reader_path == known.primary_path:
                known.visible = known.txid
        return results

    async def wait_shown(self, database: str, epoch: int, txid: int) -> None:
        """There is nobody else."""

    async def open_database(self, name: str) -> Opened:
        """Tell where the readers' file is."""
        self.opened += 1
        if self.fail_open is not None:
            raise self.fail_open
        database = self.database(name)
        return Opened(0, database.reader_path, database.slot, database.generation)

    async def wait_position(self, database: str, epoch: int, txid: int, timeout_s: float) -> None:
        """Ask `on_wait` to make it so; raises BookmarkTimeout if it did not."""
        if self.on_wait is not None:
            self.on_wait(database, epoch, txid)
        known = self.database(database)
        if (known.epoch, known.visible) < (epoch, txid):
            raise BookmarkTimeout(f"commit {txid} did not arrive within {timeout_s} s")

    def end_session(self, session: int) -> None:
        """Roll back a session."""
        self.ended.append(session)
        held = self._sessions.pop(session, None)
        if held is not None:
            held.connection.close(True)

    def break_link(self) -> None:
        """Lose all sessions with the link, and have another one."""
        self.generation += 1
        for held in self._sessions.values():
            held.connection.close(True)
        self._sessions.clear()

    # -- Positions ------------------------------------------------------------------------------------------------

    def _slot(self, slot: int) -> FakeDatabase:
        return list(self._databases.values())[slot]

    def about(self, slot: int) -> tuple[int, int]:
        """Give the newest commit that may be visible."""
        database = self._slot(slot)
        return database.epoch, database.visible

    def visible(self, slot: int) -> tuple[int, int]:
        """Give the newest visible commit."""
        database = self._slot(slot)
        return database.epoch, database.visible

    def head(self, slot: int) -> tuple[int, int]:
        """Give what was said of the primary."""
        return self.heads.get(slot, (self._slot(slot).txid, self.clock.wall_ms()))

    def newest(self, slot: int, _tables: Iterable[int]) -> int:
        """Give the newest commit, whatever it changed."""
        return self._slot(slot).txid

    def slot_generation(self, slot: int) -> int:
        """Give the number of the slot's file."""
        return self._slot(slot).generation


class FakePositions:
    """The position table of a FakeSqlStore."""

    def __init__(self, store: FakeSqlStore) -> None:
        self._store = store
        self.about = store.about
        self.visible = store.visible
        self.head = store.head
        self.newest = store.newest
        self.generation = store.slot_generation
