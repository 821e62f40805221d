"""A database does not grow past its maximum size, and its transactions keep to their time, whoever writes."""

import asyncio

import apsw
from store_kit import check_copy, opened_primary, run, sql, transaction, wait_until

from pando.errors import TransactionTimeout
from pando.store.quotas import NO_QUOTA, Quota, read_quotas

SIZE = 20 * 4096
LONG = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT count(*) FROM n"


async def fill(db, rows=200):
    """Insert rows one by one, several at a time, until one is refused; gives the failures."""
    futures = [db.send(sql("INSERT INTO t VALUES (randomblob(2000))")) for _ in range(rows)]
    results = [(await future).results[0] for future in futures]
    return [result for result in results if type(result).__name__ == "Failure"]


def test_writes_past_the_maximum_size_fail_and_say_why(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.database.limit(Quota(max_db_size=SIZE))
            failures = await fill(db)
            assert {failure.code for failure in failures} == {"SQLITE_FULL"}
            assert f"maximum size of {SIZE} bytes" in failures[0].message
            assert (await db.rows("SELECT count(*) FROM t")) == [(200 - len(failures),)]
            assert (await db.rows("PRAGMA page_count"))[0][0] <= 20
            await db.ask(sql("DELETE FROM t"))
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            whole = await db.send(transaction("INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (zeroblob(100000))"))
            assert whole.results[0].errors[2].code == "SQLITE_FULL"
            assert await db.rows("SELECT v FROM t") == [(1,)], "nothing of the transaction is left"
            await db.database.limit(NO_QUOTA)
            assert await fill(db) == []
            check_copy(db.database, tmp_path)

    run(scenario())


def test_a_limit_below_the_size_it_has_lets_it_be_read_and_shrunk(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.ask(sql("INSERT INTO t VALUES (zeroblob(200000))"))
            await db.database.limit(Quota(max_db_size=SIZE))
            assert await fill(db, 30)
            await db.ask(sql("DELETE FROM t"))
            await db.ask(sql("VACUUM"))
            await db.ask(sql("INSERT INTO t VALUES (1)"))

    run(scenario())


def test_a_transaction_is_ended_after_the_time_of_its_database(node):
    async def scenario():
        async with opened_primary(node, transaction_s=60.0) as db:
            await db.database.limit(Quota(txn_timeout_s=0.05))
            await db.ask(sql("BEGIN IMMEDIATE"), session=1)
            waiting = db.send(sql("CREATE TABLE t (v)"))
            await wait_until(waiting.done)
            assert (await waiting).results[0].rows == []
            late = await db.send(sql("COMMIT"), session=1)
            assert isinstance(late, TransactionTimeout)

    run(scenario())


def test_another_limit_does_not_end_an_open_transaction_and_holds_for_it(node):
    async def scenario():
        async with opened_primary(node, transaction_s=60.0) as db:
            await db.ask(sql("BEGIN IMMEDIATE"), session=1)
            waiting = db.send(sql("CREATE TABLE t (v)"))
            await db.database.limit(Quota(txn_timeout_s=30.0))
            await db.ask(sql("SELECT 1"), session=1)
            await db.database.limit(Quota(txn_timeout_s=0.001))
            await wait_until(waiting.done)
            assert isinstance(await db.send(sql("COMMIT"), session=1), TransactionTimeout)

    run(scenario())


def test_quotas_are_read_from_the_system_database(tmp_path):
    path = tmp_path / "_pando.db"
    assert read_quotas(path) == {}
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    assert read_quotas(path) == {}, "there is no table yet"
    connection.execute("CREATE TABLE databases(name, config, changed)")
    rows = [("a", '{"max_db_size": 5, "block_reads": true}'), ("b", "{}"), ("c", "["), ("d", '{"txn_timeout_s": 2.5}')]
    connection.executemany("INSERT INTO databases VALUES (?, ?, 1)", rows)
    assert read_quotas(path) == {"a": Quota(max_db_size=5), "d": Quota(txn_timeout_s=2.5)}
    connection.close()
    path.write_bytes(b"no database" * 100)
    assert read_quotas(path) is None


def test_the_last_limit_holds_however_many_wait(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.ask(sql("BEGIN IMMEDIATE"), session=1)
            sizes = (1 << 20, SIZE, 2 << 20)
            running = db.send(sql(LONG), session=1)
            waiting = [asyncio.create_task(db.database.limit(Quota(max_db_size=size))) for size in sizes]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            await asyncio.gather(*waiting)
            assert running.done()
            await db.ask(sql("COMMIT"), session=1)
            assert (await db.rows("PRAGMA max_page_count"))[0][0] == 512

    run(scenario())
