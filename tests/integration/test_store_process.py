"""The store process as its clients see it: writes, sessions, databases, snapshots, replicas, quorum, healing."""

import asyncio
import os
import signal
import sqlite3

import pytest
from store_world import Client, Store

from pando.store import protocol
from pando.store.requests import Failure
from pando.testing.waiting import until

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_a_write_is_durable_and_read_back(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            ran = await store.client.sql(CREATE, ("INSERT INTO t (v) VALUES (?)", (7,)), "SELECT v FROM t")
            assert ran.results[2].rows == [(7,)]
            listed = await store.client.ask(protocol.ListDatabases)
            assert listed.names == ("data",)
        async with Store(tmp_path / "p") as again:
            ran = await again.client.sql("SELECT v FROM t")
            assert ran.results[0].rows == [(7,)]

    run(scenario())


def test_a_session_holds_the_writer_and_loses_it_to_those_who_wait(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            await store.client.sql(CREATE)
            ran = await store.client.sql("BEGIN", "INSERT INTO t (v) VALUES ('lost')", session=5)
            assert not ran.is_autocommit
            other = await store.client.sql("INSERT INTO t (v) VALUES ('kept')")
            assert isinstance(other, protocol.Ran)
            late = await store.client.sql("COMMIT", session=5)
            assert (late.code, late.status) == ("TRANSACTION_TIMEOUT", 408)
            found = await store.client.sql("SELECT v FROM t")
            assert found.results[0].rows == [("kept",)]

    run(scenario())


def test_a_lost_link_rolls_its_transaction_back(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            await store.client.sql(CREATE)
            other = await Client().dial(store)
            await other.sql("BEGIN", "INSERT INTO t (v) VALUES ('lost')", session=1)
            other.link.close()
            ran = await store.client.sql("INSERT INTO t (v) VALUES ('kept')", "SELECT v FROM t")
            assert ran.results[1].rows == [("kept",)]

    run(scenario())


def test_databases_are_made_imported_and_deleted_on_every_node(tmp_path):
    source = tmp_path / "source.db"
    connection = sqlite3.connect(source)
    connection.execute("CREATE TABLE a (x)")
    connection.execute("INSERT INTO a VALUES (42)")
    connection.commit()
    connection.close()

    async def scenario():
        async with Store(tmp_path / "p") as primary, Store(tmp_path / "r", upstream=primary) as replica:
            assert isinstance(await primary.client.ask(protocol.CreateDatabase, "shop"), protocol.Opened)
            again = await primary.client.ask(protocol.CreateDatabase, "shop")
            assert again.code == "DATABASE_EXISTS"
            opened = await primary.client.ask(protocol.ImportDatabase, "old", str(source), False)
            assert isinstance(opened, protocol.Opened)
            await until(lambda: replica.server.catalog.get("old") is not None)
            database = replica.server.catalog.get("old")
            await until(lambda: database.shown.txid > 0)
            found = sqlite3.connect(f"file:{database.path}?mode=ro", uri=True)
            assert found.execute("SELECT x FROM a").fetchall() == [(42,)]
            found.close()
            refused = await replica.client.ask(protocol.CreateDatabase, "here")
            assert refused.code == "NOT_PRIMARY"
            await primary.client.ask(protocol.DeleteDatabase, "shop")
            await until(lambda: "shop" not in replica.server.catalog.names())
            unknown = await primary.client.sql("SELECT 1", database="shop")
            assert (unknown.code, unknown.status) == ("UNKNOWN_DATABASE", 404)

    run(scenario())


def test_a_file_that_is_no_database_is_not_imported(tmp_path):
    source = tmp_path / "junk.db"
    source.write_bytes(b"this is no database" * 100)

    async def scenario():
        async with Store(tmp_path / "p") as store:
            refused = await store.client.ask(protocol.ImportDatabase, "junk", str(source), False)
            assert refused.code == "INVALID_REQUEST"
            assert (await store.client.ask(protocol.ListDatabases)).names == ("data",)

    run(scenario())


def test_quorum_waits_for_a_replica_and_says_so_without(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary):
                ran = await primary.client.sql("INSERT INTO t (v) VALUES (1)", durability="quorum")
                assert isinstance(ran, protocol.Ran)
            refused = await primary.client.sql("INSERT INTO t (v) VALUES (2)", durability="quorum")
            assert (refused.code, refused.status, refused.retryable) == ("QUORUM_TIMEOUT", 504, False)
            ran = await primary.client.sql("SELECT count(*) FROM t")
            assert ran.results[0].rows == [(2,)]

    run(scenario())


def test_the_end_of_a_transaction_waits_as_what_it_wrote_would(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary):
                await primary.client.sql("INSERT INTO t (v) VALUES (1)", durability="quorum")
            quorum = {"session": 7, "durability": "quorum"}
            for text in ("BEGIN", "INSERT INTO t (v) VALUES (2)", "SELECT count(*) FROM t"):
                assert isinstance(await primary.client.sql(text, **quorum), protocol.Ran)  # nothing is committed yet
            refused = await primary.client.sql("COMMIT", **quorum)
            assert refused.code == "QUORUM_TIMEOUT"
            for text in ("BEGIN", "DELETE FROM t", "ROLLBACK"):
                assert isinstance(await primary.client.sql(text, **quorum), protocol.Ran)

    run(scenario())


def test_a_replica_shows_what_was_waited_for_and_holds_the_same_bytes(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary) as replica:
                for number in range(50):
                    ran = await primary.client.sql(("INSERT INTO t (v) VALUES (?)", (number,)))
                    waited = await replica.client.ask(protocol.WaitPosition, "data", ran.epoch, ran.txid, 2.0)
                    assert isinstance(waited, protocol.Finished)
                late = await replica.client.ask(protocol.WaitPosition, "data", ran.epoch, ran.txid + 10, 0.05)
                assert late.code == "BOOKMARK_TIMEOUT"
                ours, theirs = [await store.client.ask(protocol.VerifyDatabase, "data") for store in (primary, replica)]
                assert ours.checksum == ours.believed == theirs.checksum == theirs.believed
                assert (ours.epoch, ours.txid) == (theirs.epoch, theirs.txid)
                status = await primary.client.ask(protocol.GetStatus)
                assert status.replicas[0].databases["data"] == [ran.txid, ran.txid]

    run(scenario())


def test_who_asks_hears_when_every_replica_shows_a_commit(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            ran = await primary.client.sql(CREATE)
            alone = await primary.client.ask(protocol.WaitShown, "data", ran.epoch, ran.txid)
            async with Store(tmp_path / "r", upstream=primary) as replica:
                await until(lambda: primary.server.confirming.keeping_up("data"))
                for number in range(50):
                    ran = await primary.client.sql(("INSERT INTO t (v) VALUES (?)", (number,)))
                    told = await primary.client.ask(protocol.WaitShown, "data", ran.epoch, ran.txid)
                    if primary.server.confirming.keeping_up("data"):  # or it took longer than anybody waits for
                        assert replica.server.catalog.get("data").shown.txid >= ran.txid
                at_once = [
                    await primary.client.ask(protocol.WaitShown, "data", ran.epoch + 1, ran.txid + 100),
                    await primary.client.ask(protocol.WaitShown, "other", ran.epoch, ran.txid),
                    await replica.client.ask(protocol.WaitShown, "data", ran.epoch, ran.txid + 100),
                ]
                assert {type(each) for each in (alone, told, *at_once)} == {protocol.Finished}
                ahead = await primary.client.ask(protocol.WaitShown, "data", ran.epoch, ran.txid + 100)
                assert isinstance(ahead, protocol.Finished)
                assert (await primary.client.sql("SELECT count(*) FROM t", durability="all")).results[0].rows == [(50,)]

    run(scenario())


def test_a_killed_applier_comes_back_and_goes_on(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary) as replica:
                os.kill(replica.applier.pid, signal.SIGKILL)
                replica.applier.wait(5)
                replica.applier.stdin.close()
                ran = await primary.client.sql("INSERT INTO t (v) VALUES (1)")
                replica.start_applier()
                await until(lambda: replica.server.catalog.get("data").shown.txid >= ran.txid)

    run(scenario())


def test_a_replica_that_was_away_catches_up_and_one_with_another_history_takes_a_snapshot(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary):
                await primary.client.sql("INSERT INTO t (v) VALUES ('seen')", durability="quorum")
            for number in range(30):
                ran = await primary.client.sql(("INSERT INTO t (v) VALUES (?)", (number,)))
            async with Store(tmp_path / "r", upstream=primary) as replica:
                await until(lambda: replica.server.catalog.get("data").shown.txid >= ran.txid)
        connection = sqlite3.connect(tmp_path / "p" / "data.db")
        connection.execute("INSERT INTO t (v) VALUES ('behind our back')")
        connection.commit()
        connection.close()
        async with Store(tmp_path / "p") as primary, Store(tmp_path / "r", upstream=primary) as replica:
            await until(lambda: replica.server.catalog.get("data").shown.epoch == 2)
            ours = await primary.client.ask(protocol.VerifyDatabase, "data")
            await until(lambda: replica.server.catalog.get("data").shown.txid >= ours.txid)
            theirs = await replica.client.ask(protocol.VerifyDatabase, "data")
            assert ours.checksum == theirs.checksum

    run(scenario())


def test_the_change_feed_is_part_of_the_commit(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p", change_feed=frozenset({"data"})) as store:
            ran = await store.client.sql(
                CREATE,
                "INSERT INTO t (v) VALUES (1), (2)",
                "INSERT INTO t (id) VALUES (1)",
                "UPDATE t SET v = 9 WHERE id = 2",
                'SELECT "table", operation, key, new FROM _changes ORDER BY sequence',
            )
            assert isinstance(ran.results[2], Failure)
            assert ran.results[4].rows == [
                ("t", "insert", 1, '{"id":1,"v":1}'),
                ("t", "insert", 2, '{"id":2,"v":2}'),
                ("t", "update", 2, '{"id":2,"v":9}'),
            ]

    run(scenario())


def test_the_least_recently_used_database_is_closed(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            catalog = store.server.catalog
            catalog._open_max = 3
            for name in ("a", "b", "c", "d"):
                await store.client.ask(protocol.CreateDatabase, name)
                await store.client.sql("CREATE TABLE x (y)", database=name)
            assert len(catalog.opened()) == 3
            assert catalog.get("data") is not None
            ran = await store.client.sql("SELECT count(*) FROM x", database="a")
            assert ran.results[0].rows == [(0,)]

    run(scenario())
