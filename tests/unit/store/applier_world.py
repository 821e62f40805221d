"""Databases written by the other SQLite library, captured page by page into log entries of a log in memory."""

from __future__ import annotations

import os
import random
from pathlib import Path

import apsw

from pando.ltx import LtxHeader, encode_ltx, normalise_page_one, page_checksum
from pando.store.checksums import PageChecksums
from pando.store.segments import LogEntry
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Pgno, Position, lock_pgno


class MemoryLog:
    """What the applier needs of a log."""

    def __init__(self, base: Position = NO_POSITION) -> None:
        self.base = base
        self.entries: list[LogEntry] = []
        self.is_closed = False

    @property
    def last(self) -> Position:
        return self.entries[-1].position if self.entries else self.base

    def read(self, after: TXID, *, max_bytes: int, up_to: TXID | None = None) -> list[LogEntry]:
        found, size = [], 0
        for entry in self.entries:
            if up_to is not None and entry.max_txid > up_to:
                break
            if entry.min_txid > after and (not found or size < max_bytes):
                found.append(entry)
                size += len(entry.payload)
        return found

    def find_checksum(self, checksum: Checksum) -> Position | None:
        for position in (*(entry.position for entry in reversed(self.entries)), self.base):
            if position.checksum == checksum:
                return position
        return None

    def close(self) -> None:
        self.is_closed = True


class Primary:
    """A database that is written with SQL; `capture` puts what changed since the last time into the log."""

    def __init__(self, path: Path, *, page_size: int = 4096, auto_vacuum: int = 0) -> None:
        self.path = path
        self.page_size = page_size
        self.connection = apsw.Connection(str(path))
        run = self.connection.execute
        run(f"PRAGMA page_size={page_size}")
        run(f"PRAGMA auto_vacuum={auto_vacuum}")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA wal_autocheckpoint=0")
        run("PRAGMA synchronous=OFF")
        self._fd = os.open(path, os.O_RDONLY)
        self.pages: dict[Pgno, bytes] = {}
        self.log = MemoryLog()
        self.states: dict[TXID, dict[Pgno, bytes]] = {}
        self._table = PageChecksums()

    def sql(self, text: str, args: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        return self.connection.execute(text, args).fetchall()

    def read(self) -> dict[Pgno, bytes]:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        size = os.fstat(self._fd).st_size
        lock = lock_pgno(self.page_size)
        pages = {}
        for number in range(1, size // self.page_size + 1):
            data = os.pread(self._fd, self.page_size, (number - 1) * self.page_size)
            if number != lock:
                pages[Pgno(number)] = normalise_page_one(data) if number == 1 else data
        return pages

    def capture(self, *, epoch: int = 1, keep: bool = True) -> LogEntry | None:
        """Append one entry; None when nothing changed."""
        now = self.read()
        changed = [(pgno, data) for pgno, data in now.items() if self.pages.get(pgno) != data]
        if not changed and len(now) == len(self.pages):
            return None
        entry = self.entry_for(changed, max(now), epoch)
        self.pages = now
        self.log.entries.append(entry)
        if keep:
            self.states[entry.max_txid] = now
        return entry

    def entry_for(self, changed: list[tuple[Pgno, bytes]], page_count: int, epoch: int) -> LogEntry:
        before = self.log.last
        txid = TXID(before.txid + 1)
        post = self._table.update([(pgno, page_checksum(pgno, data)) for pgno, data in changed], page_count)
        header = LtxHeader(
            page_size=self.page_size,
            commit=page_count,
            min_txid=txid,
            max_txid=txid,
            timestamp_ms=1,
            pre_apply_checksum=Checksum(0) if txid == 1 else before.checksum,
        )
        return LogEntry(
            epoch=Epoch(epoch),
            min_txid=txid,
            max_txid=txid,
            pre_checksum=before.checksum,
            post_checksum=post,
            timestamp_ms=1,
            payload=encode_ltx(header, changed, post),
        )

    def close(self) -> None:
        self.connection.close()
        os.close(self._fd)


SCHEMA = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
CREATE INDEX item_name ON item(name);
CREATE TABLE pair(a TEXT, b INTEGER, c, PRIMARY KEY(a, b)) WITHOUT ROWID;
CREATE TABLE audit(what TEXT, id INTEGER);
CREATE TRIGGER item_added AFTER INSERT ON item BEGIN INSERT INTO audit VALUES('add', new.id); END;
CREATE TRIGGER item_gone AFTER DELETE ON item BEGIN INSERT INTO audit VALUES('del', old.id); END;
CREATE VIRTUAL TABLE words USING fts5(text);
"""


class History:
    """Random commits of many kinds, the same ones for the same seed."""

    def __init__(self, primary: Primary, seed: int) -> None:
        self.primary = primary
        self.chance = random.Random(seed)
        self.tables = 0

    def step(self) -> str:
        names = [name for name in dir(self) if name.startswith("do_")]
        name = self.chance.choice(names)
        getattr(self, name)()
        return name

    def do_insert(self) -> None:
        for _ in range(self.chance.randrange(1, 20)):
            size = self.chance.choice((3, 50, 700, 5000))
            self.primary.sql(
                "INSERT INTO item(name, body) VALUES(?, randomblob(?))", (f"n{self.chance.random()}", size)
            )

    def do_update(self) -> None:
        self.primary.sql("UPDATE item SET name = name || 'x' WHERE id % 7 = ?", (self.chance.randrange(7),))

    def do_delete_some(self) -> None:
        self.primary.sql("DELETE FROM item WHERE id % 3 = ?", (self.chance.randrange(3),))

    def do_delete_most(self) -> None:
        self.primary.sql("DELETE FROM item WHERE id % 10 <> 1")

    def do_pair(self) -> None:
        for number in range(self.chance.randrange(1, 50)):
            self.primary.sql(
                "INSERT OR REPLACE INTO pair VALUES(?, ?, ?)", ("k" * number, number, self.chance.random())
            )

    def do_blob(self) -> None:
        self.primary.sql("INSERT INTO item(body) VALUES(randomblob(?))", (self.chance.randrange(100_000, 300_000),))

    def do_words(self) -> None:
        for _ in range(self.chance.randrange(1, 30)):
            text = " ".join(self.chance.choice(("root", "trunk", "leaf", "grove")) for _ in range(20))
            self.primary.sql("INSERT INTO words VALUES(?)", (text,))

    def do_optimize(self) -> None:
        self.primary.sql("INSERT INTO words(words) VALUES('optimize')")

    def do_ddl(self) -> None:
        self.tables += 1
        self.primary.sql(f"CREATE TABLE t{self.tables}(a, b DEFAULT 'x')")
        self.primary.sql(f"INSERT INTO t{self.tables} SELECT id, name FROM item")
        self.primary.sql(f"CREATE INDEX t{self.tables}_a ON t{self.tables}(a)")

    def do_drop(self) -> None:
        found = self.primary.sql("SELECT name FROM sqlite_schema WHERE name GLOB 't[0-9]*' AND type = 'table'")
        if found:
            self.primary.sql(f"DROP TABLE {found[0][0]}")

    def do_alter(self) -> None:
        found = self.primary.sql("SELECT name FROM sqlite_schema WHERE name GLOB 't[0-9]*' AND type = 'table'")
        if found:
            self.tables += 1
            self.primary.sql(f"ALTER TABLE {found[-1][0]} ADD COLUMN c{self.tables} INTEGER DEFAULT 7")

    def do_rolled_back_savepoint(self) -> None:
        run = self.primary.sql
        run("PRAGMA cache_size=10")  # spill
        run("BEGIN")
        run("INSERT INTO item(name) VALUES('kept')")
        run("SAVEPOINT s")
        run("INSERT INTO item(body) VALUES(randomblob(200000))")
        run("DELETE FROM item WHERE id % 2 = 0")
        run("ROLLBACK TO s")
        run("UPDATE item SET name = 'after' WHERE id % 5 = 0")
        run("COMMIT")
        run("PRAGMA cache_size=-2000")

    def do_incremental_vacuum(self) -> None:
        self.primary.sql("PRAGMA incremental_vacuum(5)")

    def do_vacuum(self) -> None:
        if self.chance.random() < 0.3:
            self.primary.sql(f"PRAGMA auto_vacuum={self.chance.randrange(3)}")
        self.primary.sql("VACUUM")
