import asyncio
import threading

import apsw
import pytest

from pando.api.transfers import TRANSFERS_MAX, Transfers
from pando.errors import Overloaded, StorageError


async def pieces(*parts):
    for part in parts:
        yield part


async def whole(chunks):
    return b"".join([chunk async for chunk in chunks])


def test_a_copy_is_one_moment_of_a_database_that_is_written_to(tmp_path):
    path = tmp_path / "a.db"
    writer = apsw.Connection(str(path))
    writer.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(a, b)").fetchall()
    for _ in range(40):
        writer.executemany("INSERT INTO t VALUES (1, randomblob(500))", [()] * 100)
    stop = threading.Event()

    def write():
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5000)
        while not stop.is_set():
            connection.execute("BEGIN; INSERT INTO t VALUES (1, 0); INSERT INTO t VALUES (-1, 0); COMMIT").fetchall()
        connection.close()

    async def scenario():
        thread = threading.Thread(target=write)
        thread.start()
        try:
            transfers = Transfers(tmp_path)
            for _ in range(3):
                size, chunks = await transfers.copy(path)
                data = await whole(chunks)
                assert len(data) == size
                (tmp_path / "copy.db").write_bytes(data)
                copy = apsw.Connection(str(tmp_path / "copy.db"))
                assert copy.execute("SELECT sum(a) FROM t").fetchall() == [(4000,)]
                assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                copy.close()
        finally:
            stop.set()
            thread.join()

    asyncio.run(scenario())
    writer.close()
    assert list(tmp_path.glob("transfer-*")) == []


def test_a_received_file_is_there_until_it_is_forgotten(tmp_path):
    async def scenario():
        transfers = Transfers(tmp_path)
        path = await transfers.receive(pieces(b"a" * (3 << 20), b"b"))
        assert path.read_bytes() == b"a" * (3 << 20) + b"b"
        transfers.forget(path)
        assert not path.exists()

    asyncio.run(scenario())


def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path):
    async def broken():
        yield b"abc"
        raise ConnectionResetError

    async def scenario():
        transfers = Transfers(tmp_path)
        for _ in range(TRANSFERS_MAX + 1):
            with pytest.raises(StorageError):
                await transfers.receive(broken())
        assert list(tmp_path.iterdir()) == []

    asyncio.run(scenario())


def test_transfers_are_bounded(tmp_path):
    async def scenario():
        transfers = Transfers(tmp_path)
        paths = [await transfers.receive(pieces(b"x")) for _ in range(TRANSFERS_MAX)]
        with pytest.raises(Overloaded):
            await transfers.receive(pieces(b"x"))
        transfers.forget(paths[0])
        await transfers.receive(pieces(b"x"))

    asyncio.run(scenario())


def test_what_is_no_database_cannot_be_copied(tmp_path):
    (tmp_path / "a.db").write_bytes(b"x" * 5000)

    async def scenario():
        with pytest.raises(StorageError):
            await Transfers(tmp_path).copy(tmp_path / "a.db")
        with pytest.raises(StorageError):
            await Transfers(tmp_path).copy(tmp_path / "none.db")
        assert [path.name for path in tmp_path.iterdir()] == ["a.db"]

    asyncio.run(scenario())
