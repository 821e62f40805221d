"""Random SQL on a primary: equal bytes at equal positions on a live replica, on its replica, and on one rebuilt later.

One line reproduces a failure: the seed and the page size are in the test's name.
"""

import asyncio
import random
import sqlite3

import pytest
from store_world import Store

from pando.store import protocol
from pando.store.requests import Sequence
from pando.testing.sql_histories import SETUP, RandomSql
from pando.testing.waiting import until

pytestmark = pytest.mark.slow


async def write_some(primary, script, steps):
    """Run so many random steps; gives the last position."""
    ran = None
    for _ in range(steps):
        ran = await primary.client.ask(protocol.Run, "data", 0, (Sequence(script.step()),))
        assert isinstance(ran, protocol.Ran), ran
    return ran


async def shows(store, txid):
    await until(lambda: store.server.catalog.get("data") is not None)
    await until(lambda: store.server.catalog.get("data").shown.txid >= txid)


async def verified(store):
    found = await store.client.ask(protocol.VerifyDatabase, "data")
    assert isinstance(found, protocol.Verified), found
    assert found.checksum == found.believed, "the node's file is not what the node believes"
    return found.epoch, found.txid, found.checksum, found.pages


async def history(tmp_path, seed, page_size, steps):
    script = RandomSql(random.Random(seed), big=60_000)
    start = tmp_path / "p"
    start.mkdir()
    connection = sqlite3.connect(start / "data.db")
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA auto_vacuum = {random.Random(seed).choice(('NONE', 'FULL', 'INCREMENTAL'))}")
    connection.execute("CREATE TABLE first (x)")
    connection.commit()
    connection.close()
    async with Store(start) as primary, Store(tmp_path / "r", upstream=primary) as replica:
        for statement in SETUP:
            await primary.client.sql(statement)
        async with Store(tmp_path / "chained", upstream=replica) as chained:
            for _ in range(steps // 10):
                ran = await write_some(primary, script, 10)
                await shows(replica, ran.txid)
                await shows(chained, ran.txid)
                expected = await verified(primary)
                assert await verified(replica) == expected
                assert await verified(chained) == expected
        ran = await write_some(primary, script, 10)
        async with (
            Store(tmp_path / "chained", upstream=replica) as from_the_log,
            Store(tmp_path / "new", upstream=primary) as from_a_snapshot,
        ):
            expected = await verified(primary)
            for store in (replica, from_the_log, from_a_snapshot):
                await shows(store, ran.txid)
                assert await verified(store) == expected
    for name in ("p", "r", "chained", "new"):
        connection = sqlite3.connect(tmp_path / name / "data.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], name
        connection.close()


@pytest.mark.parametrize(("seed", "page_size"), [(1, 4096), (2, 512), (3, 65536)])
def test_every_replica_holds_the_same_bytes(tmp_path, seed, page_size):
    asyncio.run(asyncio.wait_for(history(tmp_path, seed, page_size, steps=40), 120))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_histories_of_every_page_size(tmp_path, seed):
    page_size = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)[seed % 8]
    asyncio.run(asyncio.wait_for(history(tmp_path, seed, page_size, steps=100), 300))
