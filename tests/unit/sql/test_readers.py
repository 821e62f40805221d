from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from pando.clock import SystemClock
from pando.errors import NotReady
from pando.sql.readers import DatabaseReads, Held, ReadPool
from pando.sql.store_client import Positions, StoreClient
from pando.store.positions import PositionTable
from pando.store.protocol import Opened
from pando.store.reading import Reader
from pando.store.requests import Execute, Failure, Statement, StatementResult
from pando.testing.fake_sql_store import FakeSqlStore
from pando.types import TXID, Checksum, Epoch


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FakeSqlStore]:
    store = FakeSqlStore(tmp_path, SystemClock())
    store.create("data", "create table t(a); insert into t values(1)")
    yield store
    store.close()


@pytest.fixture
def reads(store: FakeSqlStore) -> Iterator[DatabaseReads]:
    reads = DatabaseReads(Opened(0, store.database("data").reader_path, 0, 1), SystemClock())
    yield reads
    reads.close()


def run(reader: Reader, *texts: str) -> list[object]:
    return list(reader.run([Execute(Statement(text)) for text in texts]))


def test_reader_reads_and_cannot_write(reads: DatabaseReads) -> None:
    rows, refused = run(reads.inline, "select a from t", "insert into t values(2)")
    assert isinstance(rows, StatementResult)
    assert rows.rows == [(1,)]
    assert isinstance(refused, Failure)
    assert refused.code == "SQLITE_READONLY"


def test_reader_has_no_file_to_make(tmp_path: Path) -> None:
    with pytest.raises(NotReady):
        Reader(str(tmp_path / "missing.db"), SystemClock(), busy_ms=0)
    assert list(tmp_path.iterdir()) == []


def test_connection_comes_back_without_its_transaction(reads: DatabaseReads) -> None:
    reader = reads.take()
    run(reader, "begin", "select a from t")
    Held(reader, reads, 0.0).release()
    assert reads.take() is reader
    assert not reader.connection.in_transaction


def test_connection_of_a_closed_database_is_closed_when_it_comes_back(reads: DatabaseReads) -> None:
    reader = reads.take()
    reads.close()
    reads.give_back(reader)
    with pytest.raises(apsw.ConnectionClosedError):
        reader.connection.execute("select 1")


def table_of_positions(directory: Path) -> PositionTable:
    table = PositionTable.create(directory / "positions", 4)
    table.claim(0, 7)
    return table


def test_pool_follows_the_real_table_of_positions(store: FakeSqlStore, tmp_path: Path) -> None:
    table = table_of_positions(tmp_path)
    positions: Positions = table
    client: StoreClient = store
    store.database("data").generation = 7
    pool = ReadPool(client, positions, SystemClock())

    async def work() -> None:
        first = await pool.open("data")
        assert pool.ready("data") is first
        table.renew(0, 8)
        assert pool.ready("data") is None
        store.database("data").generation = 8
        second = await pool.open("data")
        assert second is not first
        pool.forget("data")
        assert pool.ready("data") is None

    asyncio.run(work())
    pool.close()
    table.publish_visible(0, Epoch(3), TXID(9), Checksum(1 << 63))
    table.publish_about(0, 10)
    assert positions.visible(0) == (3, 9)
    assert positions.about(0) == (3, 10)
    table.close()


def test_opening_at_the_same_time_opens_once(store: FakeSqlStore, tmp_path: Path) -> None:
    table = table_of_positions(tmp_path)
    store.database("data").generation = 7
    pool = ReadPool(store, table, SystemClock())

    async def work() -> None:
        found = await asyncio.gather(*(pool.open("data") for _ in range(5)))
        assert len({id(reads) for reads in found}) == 1

    asyncio.run(work())
    assert store.opened == 1
    pool.close()
    table.close()
