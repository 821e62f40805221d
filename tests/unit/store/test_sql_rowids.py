import asyncio

import pytest
from store_kit import opened_primary, run, sql

UPSERT = "INSERT INTO t VALUES (1, 'b') ON CONFLICT DO UPDATE SET v = excluded.v"


@pytest.mark.parametrize("feed", [False, True])
def test_what_inserts_nothing_tells_nobody_elses_rowid(node, feed):
    async def scenario():
        async with opened_primary(node, feed=feed) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            await db.ask(sql("CREATE TABLE k (name PRIMARY KEY) WITHOUT ROWID"))
            first, second, third = await asyncio.gather(
                db.send(sql("INSERT INTO t VALUES (77, 'a')")),
                db.send(sql(UPSERT.replace("(1,", "(77,"))),
                db.send(sql("INSERT INTO k VALUES ('x')")),
            )
            found = [answer.results[0].last_insert_rowid for answer in (first, second, third)]
            assert found == [77, 0, 0]
            assert await db.rows("SELECT last_insert_rowid()") == [(0,)]
            answer = await db.ask(sql("INSERT INTO t VALUES (78, 'c')"), sql("SELECT last_insert_rowid()"))
            assert answer.results[1].rows == [(78,)]

    run(scenario())


def test_within_a_transaction_of_several_requests_it_stays(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            await db.ask(sql("BEGIN"), sql("INSERT INTO t VALUES (5, 'a')"), session=1)
            answer = await db.ask(sql("SELECT last_insert_rowid()"), session=1)
            assert answer.results[0].rows == [(5,)]
            await db.ask(sql("COMMIT"), session=1)
            answer = await db.ask(sql("PRAGMA foreign_keys = ON"), sql("SELECT last_insert_rowid()"))
            assert answer.results[1].rows == [(0,)]

    run(scenario())
