"""Queue, sessions, cancellation: who runs when, and who is told what."""

import asyncio
import threading

from store_kit import (
    LONG,
    Client,
    image_of,
    insert,
    opened_primary,
    run,
    script,
    sql,
    table,
    transaction,
    values,
    wait_until,
)

from pando.errors import NotReady, Overloaded, StatementTimeout, TransactionTimeout
from pando.store.protocol import Ran

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


# -- order and the queue --


def test_commands_of_a_session_keep_their_order_when_the_first_must_run_alone(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            answers = [
                db.send(sql("BEGIN"), session=3),
                db.send(insert("a"), session=3),
                db.send(insert("other")),
                db.send(insert("b"), session=3),
                db.send(sql("ROLLBACK"), session=3),
                db.send(insert("c"), session=3),
            ]
            outcomes = [await answer for answer in answers]
            assert [outcome.is_autocommit for outcome in outcomes] == [False, False, True, False, True, True]
            assert sorted(await values(db)) == ["c", "other"]
            db.assert_one_answer_each()

    run(scenario())


def test_the_queue_is_bounded_and_so_is_a_sessions(node):
    async def scenario():
        async with opened_primary(node, queue_max=5) as db:
            await table(db)
            answers = [db.send(insert(number)) for number in range(8)]
            outcomes = [await answer for answer in answers]
            assert [type(outcome) for outcome in outcomes] == [Ran] * 5 + [Overloaded] * 3
            await db.ask(sql("BEGIN"), session=2)
            answers = [db.send(insert(number), session=2) for number in range(7)]
            outcomes = [await answer for answer in answers]
            assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 2
            db.assert_one_answer_each()

    run(scenario())


def test_one_bad_command_does_not_harm_its_group(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(script("CREATE TABLE t (v UNIQUE); CREATE TABLE p (id INTEGER PRIMARY KEY)"))
            await db.ask(sql("CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)"))
            await db.ask(insert("there"))
            answers = [
                db.send(insert("x")),
                db.send(sql("INSERT OR ROLLBACK INTO t VALUES ('there')")),
                db.send(script("BEGIN; INSERT INTO c VALUES (1); COMMIT")),
                db.send(transaction("INSERT INTO c VALUES (1)")),
                db.send(sql("VACUUM")),
                db.send(sql("SELECT 1")),
                db.send(script('BEGIN; RELEASE "pando command"; COMMIT')),
                db.send(script('BEGIN; SAVEPOINT "PANDO COMMAND"; COMMIT')),
                db.send(insert("y")),
            ]
            outcomes = [(await answer).results[0] for answer in answers]
            failed = [bool(getattr(one, "code", "") or any(getattr(one, "errors", ()))) for one in outcomes]
            assert failed == [False, True, True, True, False, False, True, True, False]
            assert await values(db) == ["there", "x", "y"]
            assert await db.rows("SELECT count(*) FROM c") == [(0,)]
            db.assert_one_answer_each()

    run(scenario())


def test_what_came_before_a_lost_transaction_keeps_its_result(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v UNIQUE)"))
            answer = await db.send(
                insert("kept"),
                sql("BEGIN"),
                insert("lost"),
                sql("INSERT OR ROLLBACK INTO t VALUES ('lost')"),
                insert("late"),
            )
            kinds = [type(result).__name__ for result in answer.results]
            assert kinds == ["StatementResult", "StatementResult", "StatementResult", "Failure", "StatementResult"]
            assert await values(db) == ["kept", "late"]

    run(scenario())


def test_a_long_command_runs_beside_the_loop_and_others_follow(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            long = db.send(sql(LONG))
            others = [db.send(insert(number)) for number in range(5)]
            assert all([isinstance(await other, Ran) for other in others])
            assert (await long).results[0].rows == [(200_000,)]
            assert await values(db) == [0, 1, 2, 3, 4]

    run(scenario())


# -- sessions --


def test_a_session_is_answered_when_what_it_committed_on_the_way_is_durable(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            before = db.database.position.txid
            answer = await db.ask(insert("committed"), sql("BEGIN"), insert("open"), session=4)
            assert not answer.is_autocommit
            assert answer.txid == before + 1
            assert db.database.log.durable.txid == before + 1
            assert len(db.entries) >= 1
            await db.ask(sql("ROLLBACK"), session=4)
            assert await values(db) == ["committed"]

    run(scenario())


def test_a_transaction_is_rolled_back_when_others_wait_too_long(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.05) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=5)
            await db.ask(insert("open"), session=5)
            await wait_until(lambda: node.clock.monotonic() > db.database.writer._session.opened_at + 0.06)
            await db.ask(insert("still open"), session=5)  # nobody waits, so it may go on
            other = await db.ask(insert("other"))
            assert isinstance(other, Ran)
            late = await db.send(sql("COMMIT"), session=5)
            assert isinstance(late, TransactionTimeout)
            assert await values(db) == ["other"]
            db.database.end_session((1, 5))
            await db.ask(insert("again"), session=5)
            db.assert_one_answer_each()

    run(scenario())


def test_a_transaction_that_commits_just_in_time_is_not_called_expired(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.05) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=5)
            await db.ask(insert("in time"), session=5)
            other = db.send(insert("other"))
            commit = db.send(sql("COMMIT"), session=5)
            assert (await commit).is_autocommit
            assert isinstance(await other, Ran)
            await wait_until(lambda: db.database.writer._timer is None)
            await db.ask(insert("next"), session=5)
            assert await values(db) == ["in time", "other", "next"]

    run(scenario())


def test_a_running_statement_of_an_expired_transaction_is_stopped(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.05) as db:
            await table(db)
            await db.ask(sql("BEGIN"), insert("open"), session=6)
            running = db.send(sql(ENDLESS), session=6)
            waiting = db.send(insert("queued"), session=6)
            assert isinstance(await db.send(insert("other")), Ran)
            assert isinstance(await running, TransactionTimeout)
            assert isinstance(await waiting, TransactionTimeout)
            assert await values(db) == ["other"]
            db.assert_one_answer_each()

    run(scenario())


def test_a_session_ends_with_its_link(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            gone = Client(db.database, link=9)
            await gone.ask(sql("BEGIN"), insert("open"), session=1)
            queued = gone.send(insert("queued"), session=1)
            elsewhere = gone.send(insert("no session"))
            db.database.end_link(9)
            await db.ask(insert("other"))
            assert await values(db) == ["other"]
            assert not elsewhere.done()
            assert not queued.done()

    run(scenario())


def test_a_link_that_is_lost_while_its_session_begins_leaves_nothing_open(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            gone = Client(db.database, link=9)
            begun = gone.send(sql("BEGIN"), insert("open"), sql(ENDLESS + " LIMIT 1"), session=1)
            await wait_until(lambda: db.database.writer._running is not None)
            db.database.end_link(9)
            assert isinstance(await db.send(insert("other")), Ran)
            assert isinstance(await begun, StatementTimeout)
            assert db.database.writer._session is None
            assert await values(db) == ["other"]

    run(scenario())


def test_a_session_that_is_ended_while_it_begins_is_rolled_back(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            queued = db.send(sql("BEGIN"), insert("open"), session=7)
            db.database.end_session((1, 7))
            assert isinstance(await queued, NotReady)
            running = db.send(sql("BEGIN"), insert("open"), sql(ENDLESS), session=8)
            await wait_until(lambda: db.database.writer._running is not None)
            db.database.end_session((1, 8))
            assert isinstance(await running, StatementTimeout)
            await db.ask(insert("other"))
            assert await values(db) == ["other"]
            db.assert_one_answer_each()

    run(scenario())


def test_ending_a_session_twice_and_ending_none_is_harmless(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            db.database.end_session((1, 77))
            await db.ask(sql("BEGIN"), session=2)
            db.database.end_session((1, 2))
            db.database.end_session((1, 2))
            await db.ask(insert("a"))
            db.database.end_session((1, 2))
            await db.ask(insert("b"), session=2)
            assert await values(db) == ["a", "b"]

    run(scenario())


# -- cancellation --


def test_a_cancelled_command_is_answered_whether_it_waits_or_runs(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            running = db.send(sql(ENDLESS))
            await wait_until(lambda: db.database.writer._running is not None)
            queued = db.send(insert("cancelled"))
            kept = db.send(insert("kept"))
            db.database.cancel(1, db.client.ids - 1)
            db.database.cancel(1, db.client.ids - 2)
            assert isinstance(await running, StatementTimeout)
            assert isinstance(await queued, NotReady)
            assert isinstance(await kept, Ran)
            assert await values(db) == ["kept"]
            db.assert_one_answer_each()

    run(scenario())


def test_a_command_cancelled_within_a_session_leaves_the_session_open(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=2)
            first = db.send(insert("a"), session=2)
            second = db.send(insert("b"), session=2)
            db.database.cancel(1, db.client.ids)
            assert isinstance(await first, Ran)
            assert isinstance(await second, NotReady)
            await db.ask(sql("COMMIT"), session=2)
            assert await values(db) == ["a"]

    run(scenario())


def test_the_time_limit_of_a_statement(node):
    async def scenario():
        async with opened_primary(node, statement_s=0.05) as db:
            await table(db)
            answer = await db.send(insert("kept"), sql(ENDLESS))
            assert isinstance(answer, StatementTimeout)
            assert "0.05 s" in answer.message
            assert await values(db) == ["kept"]

    run(scenario())


# -- the end --


def test_closing_answers_everybody(node):
    async def scenario():
        async with opened_primary(node, transaction_s=0.05) as db:
            await table(db)
            await db.ask(sql("BEGIN"), session=1)
            waiting = [db.send(insert(number)) for number in range(3)]
            in_session = db.send(sql("SELECT 1"), session=1)
            closing = asyncio.create_task(db.database.close())
            outcomes = [await answer for answer in [*waiting, in_session]]
            await closing
            assert all(isinstance(outcome, Ran | NotReady | TransactionTimeout) for outcome in outcomes)
            assert isinstance(await db.send(insert("late")), NotReady)
            db.assert_one_answer_each()

    run(scenario())


def test_being_stopped_while_a_thread_runs_waits_for_it_before_closing(node):
    async def scenario():
        async with opened_primary(node) as db:
            await table(db)
            running = db.send(sql(ENDLESS))
            await wait_until(lambda: db.database.writer._running is not None)
            queued = db.send(insert("queued"))
            db.database.writer.stop(NotReady("stopped from outside"))
            await db.database.close()
            assert isinstance(await running, NotReady)
            assert isinstance(await queued, NotReady)
            assert not db.database.must_reopen
            db.assert_one_answer_each()

    run(scenario())


def test_refusals_do_not_grow_the_error_that_stopped_the_writer(node):
    async def scenario():
        async with opened_primary(node) as db:
            error = NotReady("stopped")
            db.database.writer.stop(error)
            for _ in range(50):
                await db.send(insert(1))
            depth, traceback = 0, error.__traceback__
            while traceback is not None:
                depth, traceback = depth + 1, traceback.tb_next
            assert depth < 10

    run(scenario())


def test_a_large_commit_is_captured_beside_the_loop(node, tmp_path):
    async def scenario():
        async with opened_primary(node, capture_inline_bytes=50_000) as db:
            await table(db)
            threads = []
            advance = db.database.history.advance

            def noting(*args, **named):
                threads.append(threading.current_thread() is threading.main_thread())
                return advance(*args, **named)

            db.database.history.advance = noting
            await db.ask(sql("INSERT INTO t VALUES (zeroblob(300000))"))
            await db.ask(insert("small"))
            assert threads == [False, True]
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum

    run(scenario())
