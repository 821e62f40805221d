"""Holds and patient commands: who stands still for whom, and which of them end an open transaction."""

import asyncio

import pytest
from store_kit import LONG, foreign, image_of, insert, opened_primary, run, sql, table, values

from pando.errors import NotReady, TransactionTimeout
from pando.store.holds import Hold
from pando.store.protocol import Ran


def test_a_hold_waits_for_what_runs_and_starts_nothing(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            before = [db.send(insert(number)) for number in range(30)]
            hold = asyncio.create_task(db.database.writer.hold())
            await hold
            position = db.database.position
            after = db.send(insert("after"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not after.done()
            assert db.database.position == position
            db.database.writer.release()
            assert isinstance(await after, Ran)
            assert all([isinstance(await one, Ran) for one in before])

    run(scenario())


def test_a_hold_outlives_a_session_by_its_time_limit(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.05) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=1)
            await db.database.writer.hold()
            db.database.writer.release()
            assert await values(db) == []
            assert isinstance(await db.send(sql("COMMIT"), session=1), TransactionTimeout)

    run(scenario())


def test_a_pause_neither_waits_for_an_open_transaction_nor_ends_it(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.0) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=1)
            position, writer = db.database.position, db.database.writer
            await writer.hold(Hold.PAUSE)
            paused = db.send(insert("more"), session=1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not paused.done()
            assert db.database.position == position
            writer.release(Hold.PAUSE)
            assert isinstance(await paused, Ran)
            await db.ask(sql("COMMIT"), session=1)
            assert await values(db) == ["open", "more"]

    run(scenario())


def test_a_pause_waits_for_the_statement_that_runs_in_a_transaction(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=1)
            running = db.send(sql(LONG), session=1)
            for _ in range(3):
                await asyncio.sleep(0)
            await db.database.writer.hold(Hold.PAUSE)
            assert running.done()
            db.database.writer.release(Hold.PAUSE)
            await db.ask(sql("COMMIT"), session=1)

    run(scenario())


def test_a_pause_lets_a_transaction_go_on_behind_which_another_program_has_committed(node):
    """What that committed is captured after the transaction only, so there is no position to be pinned before."""

    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            await db.ask(sql("BEGIN"), sql("SELECT * FROM t"), session=1)
            foreign(db.database.path, "INSERT INTO t VALUES ('foreign')")
            hold = asyncio.create_task(db.database.writer.hold(Hold.PAUSE))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not hold.done()
            await db.ask(sql("COMMIT"), session=1)
            await hold
            assert int(db.database.position.txid) == 3
            db.database.writer.release(Hold.PAUSE)
            assert await values(db) == ["foreign"]

    run(scenario())


def test_a_patient_hold_waits_for_the_end_of_a_transaction(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.0) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=1)
            hold = asyncio.create_task(db.database.writer.hold(Hold.PATIENT))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not hold.done()
            await db.ask(sql("COMMIT"), session=1)
            await hold
            db.database.writer.release(Hold.PATIENT)
            assert await values(db) == ["open"]

    run(scenario())


def test_a_patient_command_ends_no_transaction_and_does_not_keep_its_place_when_it_is_cancelled(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.0, queue_max=1) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=1)
            for _ in range(3):
                waiting = db.send(sql("BEGIN"), session=2, is_patient=True)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert not waiting.done()
                db.database.cancel(1, db.client.ids)
                assert isinstance(await waiting, NotReady)
            await db.ask(insert("more"), session=1)
            impatient = db.send(insert("other"))
            assert isinstance(await impatient, Ran)
            assert await values(db) == ["other"]
            db.assert_one_answer_each()

    run(scenario())


def test_a_patient_command_runs_when_the_transaction_has_ended(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=1)
            waiting = db.send(sql("BEGIN"), insert("next"), session=2, is_patient=True)
            await db.ask(sql("COMMIT"), session=1)
            assert not (await waiting).is_autocommit
            await db.ask(sql("COMMIT"), session=2)
            assert await values(db) == ["open", "next"]

    run(scenario())


def test_a_hold_that_is_cancelled_lets_the_writer_go_on(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=1)
            hold = asyncio.create_task(db.database.writer.hold())
            for _ in range(3):
                await asyncio.sleep(0)
            hold.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hold
            await db.ask(sql("COMMIT"), session=1)
            await db.ask(insert("goes on"))

    run(scenario())


def test_two_holds_at_once(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            writer = db.database.writer
            await asyncio.gather(writer.hold(), writer.hold())
            waiting = db.send(insert(1))
            writer.release()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            writer.release()
            assert isinstance(await waiting, Ran)

    run(scenario())


def test_a_pinned_position_is_what_the_file_shows(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            answers = [db.send(insert(number)) for number in range(50)]

            async def look(position):
                assert image_of(db.database, tmp_path).checksum == position.checksum

            await db.database.pinned(look)
            assert all([isinstance(await answer, Ran) for answer in answers])

    run(scenario())
