"""Reads asked of the primary: they see what is committed, wait for no transaction, end none, and are answered once."""

import asyncio
import threading

from store_kit import LONG as LONG_TEXT
from store_kit import Client, foreign, opened_primary, run, sql, wait_until

from pando.errors import NotReady, Overloaded, StatementTimeout
from pando.store.protocol import Ran
from pando.store.requests import Failure

COUNT = sql("SELECT count(*) FROM t")
ENDLESS = sql("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
LONG = sql(LONG_TEXT)


def counted(answer):
    assert isinstance(answer, Ran), answer
    return answer.results[0].rows[0][0]


async def table(db):
    await db.ask(sql("CREATE TABLE t (v)"))
    await db.ask(sql("INSERT INTO t VALUES (1)"))


def test_a_read_neither_waits_for_an_open_transaction_nor_ends_it(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.0) as db:
            await table(db)
            await db.ask(sql("BEGIN IMMEDIATE"), session=1)
            await db.ask(sql("INSERT INTO t VALUES (2)"), session=1)
            for _ in range(3):
                assert counted(await db.ask(COUNT, read_only=True)) == 1
            assert counted(await db.ask(COUNT, session=1)) == 2
            await db.ask(sql("COMMIT"), session=1)
            answer = await db.ask(COUNT, read_only=True)
            assert (counted(answer), answer.txid) == (2, int(db.database.position.txid))

    run(scenario())


def test_a_read_does_not_wait_for_a_long_statement_that_writes(node):
    async def scenario():
        async with opened_primary(node, statement_s=30) as db:
            await table(db)
            writing = db.send(sql(f"INSERT INTO t {ENDLESS.statement.sql}"))
            await wait_until(lambda: db.database.writer.statistics.solos > 0)
            assert counted(await db.ask(COUNT, read_only=True)) == 1
            assert not writing.done()
            db.database.cancel(1, 3)
            assert isinstance(await writing, StatementTimeout)
            db.assert_one_answer_each()

    run(scenario())


def test_a_long_read_runs_in_a_thread_while_others_read_and_write(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            long = db.send(ENDLESS, read_only=True)
            await wait_until(lambda: db.database._beside._running)
            assert counted(await db.ask(COUNT, read_only=True)) == 1
            await db.ask(sql("INSERT INTO t VALUES (2)"))
            assert counted(await db.ask(LONG, read_only=True)) == 200_000
            assert not long.done()
            db.database.cancel(1, 3)
            error = await long
            assert "went away" in error.message
            assert db.database.is_idle

    run(scenario())


def test_a_read_is_answered_once_what_it_saw_is_durable(node):
    """What the log's disk has not taken yet may be lost; a read must not have told of it."""

    async def scenario():
        async with opened_primary(node, group_max=1) as db:
            await table(db)
            history, may_sync = db.database.history, threading.Event()
            sync = history.sync
            history.sync = lambda: may_sync.wait(20) and sync()
            try:
                # so many wait that the first one's fsync runs in a thread
                writes = [db.send(sql("INSERT INTO t VALUES (2)")) for _ in range(20)]
                await wait_until(lambda: db.database.writer._settling.is_syncing)
                read = db.send(COUNT, read_only=True)
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not read.done()
            finally:
                may_sync.set()
            answer = await read
            assert counted(answer) > 1
            assert answer.txid >= 3
            assert all(isinstance(one, Ran) for one in await asyncio.gather(*writes))

    run(scenario())


def test_what_another_program_committed_is_read_and_told_with_its_position(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            before = int(db.database.position.txid)
            foreign(db.database.path, "INSERT INTO t VALUES (2)")
            read = db.send(COUNT, read_only=True)
            await asyncio.sleep(0)
            db.database.tick(0.0)
            answer = await read
            assert (counted(answer), answer.txid) == (2, before + 1)

    run(scenario())


def test_reads_see_a_schema_that_changes(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            everything = sql("SELECT * FROM t")
            assert (await db.ask(everything, read_only=True)).results[0].rows == [(1,)]
            await db.ask(sql("ALTER TABLE t ADD COLUMN w DEFAULT 3"))
            assert (await db.ask(everything, read_only=True)).results[0].rows == [(1, 3)]

    run(scenario())


def test_nothing_stays_open_and_nothing_is_written(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            answer = await db.ask(sql("BEGIN"), COUNT, read_only=True)
            assert answer.is_autocommit
            (refused,) = (await db.send(sql("DELETE FROM t"), read_only=True)).results
            assert isinstance(refused, Failure)
            assert refused.code == "SQLITE_READONLY"
            assert counted(await db.ask(COUNT, read_only=True)) == 1

    run(scenario())


def test_waiting_reads_are_bounded(node):
    async def scenario():
        async with opened_primary(node, queue_max=3) as db:
            await table(db)
            answers = await asyncio.gather(*[db.send(COUNT, read_only=True) for _ in range(5)])
            assert [type(answer) for answer in answers] == [Ran, Ran, Ran, Overloaded, Overloaded]
            db.assert_one_answer_each()

    run(scenario())


def test_a_link_that_ends_takes_its_reads_along(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            other = Client(db.database, link=2)
            long = other.send(ENDLESS, read_only=True)
            await wait_until(lambda: db.database._beside._running)
            queued = other.send(COUNT, read_only=True)
            db.database.end_link(2)
            assert isinstance(await queued, NotReady)
            assert "went away" in (await long).message
            assert counted(await db.ask(COUNT, read_only=True)) == 1
            other.assert_one_answer_each()

    run(scenario())


def test_closing_answers_everybody_and_leaves_no_file_behind(node):
    async def scenario():
        async with opened_primary(node, keep_open=True) as db:
            await table(db)
            reads = [db.send(request, read_only=True) for request in (ENDLESS, ENDLESS, ENDLESS, COUNT)]
            await wait_until(lambda: len(db.database._beside._running) == 2 and not db.database._beside._queue)
            reads.append(db.send(COUNT, read_only=True))
            await db.database.close()
            answers = await asyncio.gather(*reads)
            assert [isinstance(answer, NotReady) for answer in answers] == [True, True, True, False, True]
            assert isinstance(await db.send(COUNT, read_only=True), NotReady)
            db.assert_one_answer_each()

    run(scenario())
